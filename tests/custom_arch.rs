//! The example of an architecture from outside the crate runs, and CONTRIBUTING shows its code.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../examples/custom_arch.rs"]
mod example;

#[test]
fn the_example_loads_plans_traces_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parallel.gguf");
    example::write_model(&path).unwrap();
    let shown = example::show(&path).unwrap();
    assert!(shown.starts_with("plan parallel decode"), "{shown}");
    assert!(shown.contains("custom_arch.rs:"), "the plan names the line of the architecture: {shown}");
}

#[test]
fn a_model_that_asks_for_more_is_refused_by_name() {
    use quipu::engine::{Engine, EngineOptions};
    use quipu::loader::OverrideValue;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parallel.gguf");
    example::write_model(&path).unwrap();
    let load = |key: &str, value| {
        let overrides = vec![(key.to_string(), value)];
        let architectures = vec![example::PARALLEL];
        Engine::load(&path, EngineOptions { architectures, overrides, ..EngineOptions::default() })
    };
    let e = load("parallel.final_logit_softcapping", OverrideValue::Float(30.0)).unwrap_err();
    assert!(e.code() == "Unsupported" && e.to_string().contains("final_logit_softcapping"), "{e}");
    assert!(load("parallel.attention.scale", OverrideValue::Float(0.5)).is_ok());
}

#[test]
fn contributing_shows_the_recipe_as_it_is() {
    let source = include_str!("../examples/custom_arch.rs");
    let recipe = source.split("// recipe\n").nth(1).unwrap().split("// end of the recipe").next().unwrap();
    let shown = include_str!("../CONTRIBUTING.md");
    assert!(
        shown.contains(&format!("```rust,ignore\n{recipe}```")),
        "copy the recipe into CONTRIBUTING.md:\n{recipe}"
    );
}
