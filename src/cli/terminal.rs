//! What only a terminal gets: colour and bars.

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Always.
    On,
    /// Never.
    Off,
    /// On a terminal, unless `NO_COLOR` is set; everywhere if `CLICOLOR_FORCE` is.
    Auto,
}

impl Color {
    /// Whether standard output is coloured.
    pub fn stdout(self) -> bool {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let dumb = var("TERM").is_some_and(|t| t == "dumb");
        self.decide(
            var("NO_COLOR").is_some(),
            var("CLICOLOR_FORCE").is_some_and(|v| v != "0"),
            std::io::stdout().is_terminal() && !dumb,
        )
    }

    fn decide(self, no_color: bool, force: bool, terminal: bool) -> bool {
        match self {
            Color::On => true,
            Color::Off => false,
            Color::Auto => !no_color && (force || terminal),
        }
    }
}

/// A bar of bytes on standard error; nothing if that is no terminal.
pub fn bytes_bar(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// A bar of things done on standard error, with the time that is left; nothing if that is no terminal.
pub fn count_bar(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:32}] {pos}/{len}, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// A spinner on standard error for work of unknown length; nothing if that is no terminal.
pub fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_the_environment_and_the_terminal() {
        assert!(Color::On.decide(true, false, false));
        assert!(!Color::Off.decide(false, true, true));
        assert!(Color::Auto.decide(false, false, true));
        assert!(Color::Auto.decide(false, true, false));
        assert!(!Color::Auto.decide(true, true, true));
        assert!(!Color::Auto.decide(false, false, false));
    }
}
