//! `cowblk token`: who may come in to `cowblk serve`. Works beside a running daemon, which looks at the file again.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cowblk_http::{Scope, TokenView, Tokens, state_folder};
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::table::{Column, Table, printable};
use crate::times;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token, and show it this once
    #[command(after_help = "Examples:
  cowblk --store pool.cow token create admin
  cowblk --store pool.cow token create monitoring --scope read
  TOKEN=$(cowblk --store pool.cow token create ci --quiet)")]
    Create {
        /// What it is for
        name: String,
        /// What it allows [default: read and write]
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<ScopeName>,
        /// Print the token and nothing else
        #[arg(long)]
        quiet: bool,
        #[command(flatten)]
        state: StateArguments,
    },
    /// List the tokens; what they are is not known any more
    #[command(after_help = "Examples:\n  cowblk --store pool.cow token list")]
    List {
        #[command(flatten)]
        state: StateArguments,
    },
    /// Take a token back, by name or number; its holder is refused from then on
    #[command(after_help = "Examples:\n  cowblk --store pool.cow token revoke ci")]
    Revoke {
        /// Its name or number
        #[arg(value_name = "TOKEN")]
        which: String,
        #[command(flatten)]
        state: StateArguments,
    },
}

/// Where the daemon keeps what is not in the store.
#[derive(Debug, Args)]
pub(crate) struct StateArguments {
    /// The daemon's folder [default: the store's path with `.serve` behind it]
    #[arg(long, value_name = "FOLDER", env = "COWBLK_STATE", hide_env_values = true)]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScopeName {
    /// To look
    Read,
    /// To change
    Write,
}

#[derive(Serialize)]
struct Shown {
    id: u64,
    name: String,
    scopes: Vec<Scope>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Shown {
    fn of(view: TokenView, token: Option<String>) -> Shown {
        let TokenView { id, name, scopes, created_at } = view;
        Shown { id, name, scopes, created_at: times::rfc3339(created_at), token }
    }

    fn scopes(&self) -> String {
        let word = |scope: &Scope| if *scope == Scope::Write { "write" } else { "read" };
        self.scopes.iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

impl StateArguments {
    /// The daemon's folder. A block device has no place beside it.
    pub(crate) fn folder(&self, session: &Session) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state {
            return Ok(folder.clone());
        }
        let store = session.path_for_serving();
        let folder = state_folder(&store);
        if store.starts_with("/dev") {
            let sentence = "there is no place beside a block device: say where the daemon keeps its state, with --state FOLDER";
            return Err(Failure::new(Kind::Usage, sentence));
        }
        Ok(folder)
    }
}

pub(crate) fn run(session: &Session, command: Command) -> Result<(), Failure> {
    let open = |state: &StateArguments| {
        let folder = state.folder(session)?;
        Tokens::open(&folder).map_err(|cause| failed(&cause))
    };
    match command {
        Command::Create { name, scope, quiet, state } => {
            let mut scopes: Vec<Scope> = scope.into_iter().map(Scope::from).collect();
            if scopes.is_empty() {
                scopes = vec![Scope::Read, Scope::Write];
            }
            scopes.sort_unstable();
            scopes.dedup();
            let made = open(&state)?.create(&name, &scopes, times::now()).map_err(|cause| failed(&cause))?;
            let shown = Shown::of(made.view, Some(made.token.clone()));
            if quiet {
                return crate::output::print(&made.token);
            }
            let text = format!(
                "token {} (id {}, {}):\n\n  {}\n\nIt is shown this once; only its hash is kept.",
                printable(&shown.name),
                shown.id,
                shown.scopes(),
                made.token
            );
            session.output.item(&shown, &text)
        }
        Command::List { state } => {
            let views = open(&state)?.list().map_err(|cause| failed(&cause))?;
            let shown: Vec<Shown> = views.into_iter().map(|view| Shown::of(view, None)).collect();
            let mut table = Table::new([
                Column::Right("ID"),
                Column::Left("NAME"),
                Column::Left("SCOPES"),
                Column::Left("CREATED"),
            ]);
            for one in &shown {
                table.row([one.id.to_string(), printable(&one.name), one.scopes(), one.created_at.clone()]);
            }
            session.output.list(&shown, &table)
        }
        Command::Revoke { which, state } => {
            let gone = open(&state)?.revoke(&which).map_err(|cause| failed(&cause))?;
            let shown: Vec<Shown> = gone.into_iter().map(|view| Shown::of(view, None)).collect();
            let names: Vec<String> =
                shown.iter().map(|one| format!("{} (id {})", printable(&one.name), one.id)).collect();
            session.output.many(&shown, &format!("revoked {}", names.join(", ")))
        }
    }
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Scope {
        match name {
            ScopeName::Read => Scope::Read,
            ScopeName::Write => Scope::Write,
        }
    }
}

fn failed(cause: &std::io::Error) -> Failure {
    let kind = match cause.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::InvalidInput => Kind::Invalid,
        _ => Kind::Io,
    };
    Failure::new(kind, cause.to_string())
}
