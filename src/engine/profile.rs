//! A profile of whatever an engine runs between two calls.

use super::Engine;
use crate::backends::probe::Recorder;
use crate::debug::profile::Profile;
use crate::plan::Plan;
use crate::plan::forecast::Limits;

/// What a profile keeps.
#[derive(Clone, Copy, Debug)]
pub struct ProfileOptions {
    /// Passes that there is room for from the start: until then a step allocates nothing. Beyond, it grows.
    pub passes: usize,
    /// Keep the times of single passes, for [`Profile::write_chrome_trace`]; at most 256 MiB of them.
    pub slices: bool,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        ProfileOptions { passes: 4096, slices: false }
    }
}

impl Engine {
    /// Begins to take the time of every command on every thread; a profile that had begun is forgotten. The bits of
    /// logits are the same as without.
    ///
    /// ```
    /// use quipu::engine::{Engine, EngineOptions, Logits, ProfileOptions, StepInput};
    /// use quipu::plan::Phase;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.gguf");
    /// # let file = std::fs::File::create(&path).unwrap();
    /// # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::Q8_0, 1, file)?;
    /// let mut engine = Engine::load(&path, EngineOptions::default())?;
    /// let mut session = engine.new_session()?;
    /// engine.start_profile(&ProfileOptions::default());
    /// for tokens in [&[1, 5, 6, 7, 8, 9, 10, 11, 12, 13][..], &[14], &[15]] {
    ///     engine.step(&mut [StepInput { session: &mut session, tokens, logits: Logits::Last }])?;
    /// }
    /// // With limits (`Machine::kept`), a forecast stands beside each time.
    /// let profile = engine.finish_profile(None).unwrap();
    ///
    /// let decode = profile.plan(Phase::Decode).unwrap();
    /// assert_eq!((decode.passes, decode.rows), (2, 2));
    /// let product = decode.kinds.iter().find(|k| k.name == "linear_swiglu").unwrap();
    /// assert!(product.commands == 2 && product.work.ops > 0 && product.work.seconds > 0.0);
    /// assert!(profile.command_seconds <= profile.wall_seconds);
    /// println!("{profile}");
    /// # Ok::<(), quipu::Error>(())
    /// ```
    pub fn start_profile(&mut self, options: &ProfileOptions) {
        let n_cmds: Vec<usize> = self.plans().map(|p| p.cmds.len()).collect();
        self.recorder = Some(Recorder::new(&n_cmds, self.n_threads(), options.passes, options.slices));
    }

    /// Ends the profile; `None` if none had begun. Limits of the machine add forecasts to it.
    pub fn finish_profile(&mut self, limits: Option<&Limits>) -> Option<Profile> {
        let recorder = self.recorder.take()?;
        let plans: Vec<&Plan> = self.plans().collect();
        Some(Profile::new(recorder, self.isa, &plans, limits))
    }

    /// The plans by number.
    fn plans(&self) -> impl Iterator<Item = &Plan> {
        (0..).map_while(|i| self.runner.plan(i))
    }
}
