//! Story: the states that a store was asked to go through, and how far it promised to keep them.

use super::plain::{Model, Outcome};
use super::recorder::Moment;
use super::verb::Verb;

pub struct Story {
    /// Oldest first; never empty.
    pub states: Vec<Model>,
    pub fingerprints: Vec<u64>,
    /// The last state that a returned verb made durable.
    pub promised: usize,
    /// What was done, for people.
    pub told: Vec<String>,
}

impl Story {
    pub fn new(model: Model) -> Self {
        Self { fingerprints: vec![model.fingerprint()], states: vec![model], promised: 0, told: Vec::new() }
    }

    /// The newest state that was asked for.
    pub fn last(&self) -> &Model {
        self.states.last().unwrap()
    }

    pub fn moment(&self) -> Moment {
        Moment { promised: self.promised, asked: self.states.len() - 1 }
    }

    /// A verb is about to run: adds the states that it leads to. Returns how it must end.
    pub fn ask(&mut self, verb: &Verb) -> Outcome<()> {
        self.told.push(verb.to_string());
        for state in verb.states(self.last())? {
            self.fingerprints.push(state.fingerprint());
            self.states.push(state);
        }
        Ok(())
    }

    /// Everything asked for is durable.
    pub fn promise(&mut self) {
        self.promised = self.states.len() - 1;
    }

    /// The store stopped at this state: what was asked for beyond did not happen.
    pub fn stop_at(&mut self, state: usize) {
        self.states.truncate(state + 1);
        self.fingerprints.truncate(state + 1);
    }

    /// Goes on from this state alone: it is durable, and what was before does not matter any more.
    pub fn go_on_from(&mut self, state: usize) {
        self.told.push(format!("crashed, and went on from state {state} of {}", self.states.len() - 1));
        self.stop_at(state);
        self.states.drain(..state);
        self.fingerprints.drain(..state);
        self.promised = 0;
    }

    /// Whether two states cannot be told apart.
    pub fn alike(&self, one: usize, other: usize) -> bool {
        self.fingerprints[one] == self.fingerprints[other]
    }
}
