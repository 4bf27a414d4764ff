//! The command line from outside: the program is run, and judged by its output, exit code and files.

mod damage;
mod demo;
mod diff;
mod exit_codes;
mod harness;
mod history;
mod json;
mod killed;
mod nouns;
mod sizes;
mod streams;
mod transfers;
