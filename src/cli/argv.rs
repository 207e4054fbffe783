//! Spellings and environment variables.
//!
//! llama.cpp's users type `-ub 64`; clap reads that as `-u b`. [`rewrite`] puts the long name in its place before
//! clap looks. [`with_environment`] gives every long flag its variable, so that no flag can be without one.

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

/// Short names of several letters, and the long names they stand for.
pub const SHORT: &[(&str, &str)] = &[
    ("-ub", "--ubatch-size"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-lm", "--load-mode"),
    ("-co", "--color"),
    ("-sys", "--system-prompt"),
    ("-sysf", "--system-prompt-file"),
    ("-st", "--single-turn"),
    ("-np", "--parallel"),
];

/// Commands whose variables carry the command's name: settings of a measurement should not leak into use.
const SCOPED: &[&str] = &["bench", "profile"];

/// Variables that hold in every command that has the flag, also in scoped ones.
const EVERYWHERE: &[&str] = &["isa", "memory"];

/// Replaces the short names of several letters. Values of flags and what follows `--` are left alone.
pub fn rewrite(root: &Command, argv: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    let mut takes_value: HashSet<String> = HashSet::new();
    let mut command: Option<&Command> = None;
    let mut argv = argv;
    out.extend(argv.next());
    while let Some(arg) = argv.next() {
        if command.is_none() {
            command = root.find_subcommand(&arg);
            takes_value = command.map(value_flags).unwrap_or_default();
            out.push(arg);
            continue;
        }
        if arg == "--" {
            out.push(arg);
            out.extend(argv);
            break;
        }
        let new = expand(&arg).unwrap_or(arg);
        let value_follows = takes_value.contains(new.to_string_lossy().as_ref());
        out.push(new);
        if value_follows {
            out.extend(argv.next());
        }
    }
    out
}

/// The long form of `-ub` or `-ub=4`.
fn expand(arg: &OsStr) -> Option<OsString> {
    let text = arg.to_str()?;
    let (name, value) = match text.split_once('=') {
        Some((n, v)) => (n, Some(v)),
        None => (text, None),
    };
    let (_, long) = SHORT.iter().find(|(s, _)| *s == name)?;
    Some(match value {
        Some(v) => format!("{long}={v}").into(),
        None => (*long).into(),
    })
}

/// The spellings of a command's flags that are always followed by a value.
fn value_flags(command: &Command) -> HashSet<String> {
    let takes = |a: &&Arg| {
        let min = a.get_num_args().map_or(1, |n| n.min_values());
        a.get_action().takes_values() && min > 0 && !a.is_positional()
    };
    let mut flags = HashSet::new();
    for a in command.get_arguments().filter(takes) {
        flags.extend(long_names(a).into_iter().map(|l| format!("--{l}")));
        flags.extend(a.get_short_and_visible_aliases().unwrap_or_default().iter().map(|s| format!("-{s}")));
    }
    flags
}

/// Every long name of a flag, the primary one first.
fn long_names(a: &Arg) -> Vec<&str> {
    let mut names: Vec<&str> = a.get_long().into_iter().collect();
    names.extend(a.get_all_aliases().unwrap_or_default());
    names
}

/// The variables of a flag in the order they are looked at, the one that help shows first.
fn variables(scope: Option<&str>, a: &Arg) -> Vec<String> {
    let upper = |s: &str| s.replace('-', "_").to_ascii_uppercase();
    let mut names = Vec::new();
    for long in long_names(a) {
        match scope {
            Some(c) => names.push(format!("QUIPU_{}_{}", upper(c), upper(long))),
            None => names.push(format!("QUIPU_{}", upper(long))),
        }
        if scope.is_some() && EVERYWHERE.contains(&long) {
            names.push(format!("QUIPU_{}", upper(long)));
        }
    }
    names
}

/// Gives every long flag its environment variable.
pub fn with_environment(root: Command) -> Command {
    let names: Vec<String> = root.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    names.iter().fold(root, |root, name| {
        root.mut_subcommand(name, |c| {
            let scope = SCOPED.contains(&name.as_str()).then_some(name.as_str());
            c.mut_args(|a| attach(scope, a))
        })
    })
}

fn attach(scope: Option<&str>, a: Arg) -> Arg {
    let names = variables(scope, &a);
    let Some(first) = names.first() else { return a };
    let has_text = |n: &&String| std::env::var_os(n).is_some_and(|v| !v.is_empty());
    let name = match names.iter().find(has_text) {
        Some(set) => set.clone(),
        // Set to nothing means not set, as for NO_COLOR.
        None if std::env::var_os(first).is_some() => return a,
        None => first.clone(),
    };
    let a = if matches!(a.get_action(), ArgAction::SetTrue) {
        a.value_parser(BoolishValueParser::new())
    } else {
        a
    };
    a.env(clap::builder::OsStr::from(name)).hide_env_values(true)
}

/// Where the values of a command's flags came from.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a>(&'a ArgMatches);

impl<'a> Given<'a> {
    /// Of a parsed command.
    pub fn new(matches: &'a ArgMatches) -> Self {
        Given(matches)
    }
    /// Whether the flag with this field name stands on the command line.
    pub fn on_command_line(self, id: &str) -> bool {
        self.0.try_contains_id(id).unwrap_or(false)
            && self.0.value_source(id) == Some(ValueSource::CommandLine)
    }
    /// Whether nobody gave the flag with this field name: it has its default.
    pub fn is_default(self, id: &str) -> bool {
        self.0.try_contains_id(id).unwrap_or(false)
            && self.0.value_source(id) == Some(ValueSource::DefaultValue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    fn rewritten(args: &[&str]) -> Vec<String> {
        let argv = std::iter::once("quipu").chain(args.iter().copied()).map(OsString::from);
        rewrite(&command(), argv).into_iter().skip(1).map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn short_names_of_several_letters_become_long_ones() {
        let line = ["run", "-ub", "4", "-ctk=f32", "-ctv", "f16", "-lm", "read", "-co", "on", "-n", "5"];
        let want = [
            "run",
            "--ubatch-size",
            "4",
            "--cache-type-k=f32",
            "--cache-type-v",
            "f16",
            "--load-mode",
            "read",
            "--color",
            "on",
            "-n",
            "5",
        ];
        assert_eq!(rewritten(&line), want);
        assert_eq!(rewritten(&["bench", "-ub", "8"]), ["bench", "--ubatch-size", "8"]);
    }

    #[test]
    fn values_and_what_follows_a_double_dash_are_left_alone() {
        for line in [
            &["run", "-p", "-ub", "-m", "-co"][..],
            &["run", "--prompt", "-ctk", "--stop", "-lm"],
            &["tokenize", "-m", "x", "--", "-ub"],
        ] {
            assert_eq!(rewritten(line), line);
        }
        // A flag without a value takes none.
        assert_eq!(rewritten(&["run", "--echo", "-ub", "4"]), ["run", "--echo", "--ubatch-size", "4"]);
    }

    #[test]
    fn every_short_name_stands_for_a_flag() {
        let root = command();
        for (short, long) in SHORT {
            let known = |c: &Command| c.get_arguments().any(|a| a.get_long() == long.strip_prefix("--"));
            assert!(root.get_subcommands().any(known), "{short}");
        }
    }

    #[test]
    fn every_long_flag_has_its_variable() {
        let root = command();
        let mut seen = 0;
        for c in root.get_subcommands() {
            let prefix = match c.get_name() {
                "bench" => "QUIPU_BENCH_",
                "profile" => "QUIPU_PROFILE_",
                _ => "QUIPU_",
            };
            for a in c.get_arguments() {
                let Some(long) = a.get_long().filter(|l| *l != "help") else { continue };
                let want = format!("{prefix}{}", long.replace('-', "_").to_ascii_uppercase());
                assert_eq!(a.get_env(), Some(OsStr::new(&want)), "{} --{long}", c.get_name());
                seen += 1;
            }
        }
        assert!(seen > 50, "{seen} flags");
    }

    #[test]
    fn the_command_tree_is_sound() {
        command().debug_assert();
    }
}
