//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    admins, bundle, history, init, keys, log, login, nodes, paths, policy, query, reach, report, retention,
    users, verify,
};

const AFTER_HELP: &str = "\
Begin with:
  writ init --data /var/lib/writ --name example --url https://192.0.2.1:8443
  writ login --server https://192.0.2.1:8443 --admin adm_…

Exit codes:
  0  done, or everything holds
  1  failed, refused, or something does not verify; standard error says what, why and what to do
  2  the arguments cannot be understood

Environment:
  WRIT_CONFIG   the file with servers, tokens and pins (default: ~/.config/writ/credentials.toml)
  WRIT_SERVER   the server to talk to (default: the one of the last sign-in)
  WRIT_SECRET   the secret to sign in with
  NO_COLOR      no colours";

/// Operates and audits a Writ network.
///
/// Every join, policy change and connection of the network is a record in a log that nobody can alter unseen. This
/// program changes the network, asks who could reach what and who did, and verifies the log and evidence taken from it
/// without having to trust the server.
#[derive(Parser)]
#[command(name = "writ", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct Arguments {
    /// Print one JSON value on standard output instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// The server, as https://HOST:PORT; by default the one of the last sign-in.
    #[arg(long, global = true, value_name = "URL", env = "WRIT_SERVER", hide_env_values = true)]
    pub server: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The families of commands.
#[derive(Subcommand)]
pub enum Command {
    Init(init::Arguments),
    Login(login::Arguments),
    Keys(keys::Arguments),
    Policy(policy::Arguments),
    Nodes(nodes::Arguments),
    Users(users::Arguments),
    Retention(retention::Arguments),
    Admins(admins::Arguments),
    Log(log::Arguments),
    Query(query::Arguments),
    WhoCanReach(reach::WhoCanReach),
    Reach(reach::Reach),
    Paths(paths::Paths),
    BlastRadius(paths::BlastRadius),
    Connections(history::Connections),
    Denials(history::Denials),
    Report(report::Arguments),
    Bundle(bundle::Arguments),
    Verify(verify::Arguments),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_pin_may_begin_with_a_hyphen_as_one_of_64_does() {
        let pin = format!("-q{}A", "x".repeat(40));
        let read = Arguments::try_parse_from(["writ", "login", "--pin", &pin]);
        assert!(read.is_ok(), "{}", read.err().map(|error| error.to_string()).unwrap_or_default());
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "`{path}` says nothing of itself");
            if command.get_subcommands().next().is_none() {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("writ "), "`{path}` has no example");
            }
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        check(&Arguments::command(), "");
    }
}
