//! What begins with a slash.

use quipu::engine::{GenerateOptions, SamplerParams};
use quipu::error::{Error, Problem, Result, escape};
use std::path::PathBuf;

/// A command.
#[derive(Debug, PartialEq)]
pub enum Command {
    Reset,
    Save(PathBuf),
    Load(PathBuf),
    /// Name and value; both missing to list.
    Set(Option<(String, String)>),
    Stats,
    Regen,
    Undo,
    System(String),
    Help,
    Exit,
}

/// Names, arguments and what they do.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("reset", "", "begin a new conversation; a system prompt stays"),
    ("save", "FILE", "write the conversation with its keys and values"),
    ("load", "FILE", "go on with a conversation that was saved"),
    ("set", "[NAME VALUE]", "change how tokens are chosen; without a name, list what can be set"),
    ("system", "[TEXT]", "change the system prompt; without text, drop it"),
    ("regen", "", "answer the last message again"),
    ("undo", "", "take the last message and its answer back"),
    ("stats", "", "tokens and times of the last answer, what is used of the context"),
    ("help", "", "this list"),
    ("exit", "", "leave (also /quit, /bye)"),
];

/// Names for completion.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name)
}

/// The list of commands.
pub fn help() -> String {
    let lines =
        COMMANDS.iter().map(|(name, args, what)| format!("  {:<22} {what}\n", format!("/{name} {args}")));
    let rest = "  \\ at the end of a line, or \"\"\" around several, makes a message of several lines; // begins one with /";
    lines.collect::<String>() + rest
}

/// What a line is: a command, or a message.
///
/// Errors: `UnknownCommand`, `MissingArgument` (usage).
pub fn parse(line: &str) -> Result<Result<Command, String>> {
    let Some(rest) = line.strip_prefix('/') else { return Ok(Err(line.to_owned())) };
    if rest.starts_with('/') {
        return Ok(Err(rest.to_owned()));
    }
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let argument = argument.trim();
    let path = || match argument {
        "" => {
            let p = Problem::new("MissingArgument", format!("/{name}"));
            Err(Error::usage(p.expected("the name of a file")))
        }
        path => Ok(PathBuf::from(path)),
    };
    Ok(Ok(match name {
        "reset" | "clear" => Command::Reset,
        "save" => Command::Save(path()?),
        "load" => Command::Load(path()?),
        "set" if argument.is_empty() => Command::Set(None),
        "set" => {
            let (name, value) = argument.split_once(char::is_whitespace).unwrap_or((argument, ""));
            Command::Set(Some((name.to_owned(), value.trim().to_owned())))
        }
        "stats" => Command::Stats,
        "regen" => Command::Regen,
        "undo" => Command::Undo,
        "system" => Command::System(argument.to_owned()),
        "help" | "?" => Command::Help,
        "exit" | "quit" | "bye" => Command::Exit,
        _ => {
            let p = Problem::new("UnknownCommand", format!("/{}", escape(name)));
            return Err(Error::usage(p.hint("/help lists commands; // begins a message with /")));
        }
    }))
}

/// Changes a setting.
///
/// Errors of class `Usage`: `UnknownSetting`, `OutOfRange`.
pub fn set(options: &mut GenerateOptions, name: &str, value: &str) -> Result<()> {
    fn parse<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
        value.parse().map_err(|_| {
            let p = Problem::new("OutOfRange", escape(name)).found(format!("\"{}\"", escape(value)));
            Error::usage(p.expected("a number"))
        })
    }
    let mut new = options.clone();
    let s = &mut new.sampler;
    let key = name.trim_start_matches('-').replace('-', "_");
    match key.as_str() {
        "temp" | "temperature" => s.temp = parse(name, value)?,
        "top_k" => s.top_k = parse(name, value)?,
        "top_p" => s.top_p = parse(name, value)?,
        "min_p" => s.min_p = parse(name, value)?,
        "repeat_penalty" => s.repeat_penalty = parse(name, value)?,
        "repeat_last_n" => s.repeat_last_n = parse(name, value)?,
        "presence_penalty" => s.presence_penalty = parse(name, value)?,
        "frequency_penalty" => s.frequency_penalty = parse(name, value)?,
        "seed" if value == "-1" => s.seed = None,
        "seed" => s.seed = Some(parse(name, value)?),
        "predict" | "n_predict" => new.max_tokens = parse(name, value)?,
        _ => {
            let p = Problem::new("UnknownSetting", escape(name));
            return Err(Error::usage(p.hint("/set without a name lists what there is")));
        }
    }
    new.sampler.check()?;
    *options = new;
    Ok(())
}

/// The settings as `/set` takes them.
pub fn list(options: &GenerateOptions) -> String {
    let SamplerParams {
        temp,
        top_k,
        top_p,
        min_p,
        repeat_penalty,
        repeat_last_n,
        presence_penalty,
        frequency_penalty,
        seed,
        ..
    } = &options.sampler;
    let seed = seed.map_or("-1".to_owned(), |s| s.to_string());
    format!(
        "temp {temp}\ntop_k {top_k}\ntop_p {top_p}\nmin_p {min_p}\nrepeat_penalty {repeat_penalty}\n\
         repeat_last_n {repeat_last_n}\npresence_penalty {presence_penalty}\nfrequency_penalty {frequency_penalty}\n\
         seed {seed}\npredict {}",
        options.max_tokens
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_messages() {
        assert_eq!(parse("hello").unwrap(), Err("hello".into()));
        assert_eq!(parse("//etc").unwrap(), Err("/etc".into()));
        assert_eq!(parse("/reset").unwrap(), Ok(Command::Reset));
        assert_eq!(parse("/save a b ").unwrap(), Ok(Command::Save("a b".into())));
        assert_eq!(parse("/set temp  0.5").unwrap(), Ok(Command::Set(Some(("temp".into(), "0.5".into())))));
        assert_eq!(parse("/save").unwrap_err().code(), "MissingArgument");
        assert_eq!(parse("/frobnicate").unwrap_err().code(), "UnknownCommand");
        assert_eq!(parse("/").unwrap_err().code(), "UnknownCommand");
    }

    #[test]
    fn settings_are_checked_and_all_listed_ones_can_be_set() {
        let mut o = GenerateOptions::default();
        set(&mut o, "--top-k", "7").unwrap();
        assert_eq!(o.sampler.top_k, 7);
        assert_eq!(set(&mut o, "top_p", "2").unwrap_err().code(), "OutOfRange");
        assert_eq!(set(&mut o, "top_p", "x").unwrap_err().code(), "OutOfRange");
        assert_eq!(set(&mut o, "nothing", "1").unwrap_err().code(), "UnknownSetting");
        assert_eq!(o.sampler.top_p, SamplerParams::default().top_p, "unchanged after an error");
        for line in list(&o.clone()).lines() {
            let (name, value) = line.split_once(' ').unwrap();
            set(&mut o, name, value).unwrap();
        }
    }
}
