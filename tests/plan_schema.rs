//! The JSON schema of plans: the one in `docs/` is the one of the code, what `quipu plan --format json` writes conforms
//! to it, and what does not conform cannot be read back.
#![allow(clippy::unwrap_used)]

mod common;

use common::plans::{LIMITS, header};
use common::process::quipu;
use quipu::backends::Isa;
use quipu::engine::{EngineOptions, PlanDocument, RunForecast};
use quipu::plan::{FuseOptions, Phase, Plan};
use quipu::quant::DType;
use serde_json::{Value, json};

fn document(shape: &str, dtype: DType, phase: Phase, options: &EngineOptions) -> Value {
    let forecast = RunForecast::new(&header(shape, dtype), options).unwrap();
    let limits = options.memory.map(|_| &LIMITS);
    let document = PlanDocument { plan: forecast.plan(phase).unwrap(), forecast: forecast.facts(limits) };
    serde_json::to_value(document).unwrap()
}

/// The schema with every object closed: a field that it does not know is an error, where the published one lets readers
/// of later versions live.
fn closed() -> jsonschema::Validator {
    fn close(v: &mut Value) {
        match v {
            Value::Object(o) => {
                if o.contains_key("properties") {
                    o.insert("additionalProperties".into(), json!(false));
                }
                o.values_mut().for_each(close);
            }
            Value::Array(a) => a.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut schema = PlanDocument::schema();
    close(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn the_published_schema_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plan.schema.json");
    let text = std::fs::read_to_string(path).unwrap();
    let published: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(published, PlanDocument::schema(), "cargo run -- plan --schema -o docs/plan.schema.json");
    let printed = quipu(&["plan", "--schema"]);
    assert_eq!((printed.code, printed.stdout), (Some(0), text));
    assert!(jsonschema::meta::is_valid(&published));
}

#[test]
fn every_field_says_what_it_means() {
    let schema = PlanDocument::schema();
    let mut silent = Vec::new();
    let objects = schema["$defs"].as_object().unwrap().iter().map(|(name, v)| (name.as_str(), v));
    for (name, object) in objects.chain([("document", &schema)]) {
        for (field, v) in object["properties"].as_object().into_iter().flatten() {
            if v["description"].as_str().is_none_or(str::is_empty) {
                silent.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn plans_of_every_architecture_conform() {
    let validator = closed();
    let rules = FuseOptions::without(&["gate_up", "qkv_rope_kv"]).unwrap();
    let mut seen = 0;
    for (shape, dtype) in [
        ("llama-2-7b", DType::Q8_0),
        ("llama-3.2-1b", DType::Q4_K),
        ("qwen2.5-0.5b", DType::F16),
        ("qwen3-0.6b", DType::Q6_K),
        ("phi-3-mini-4k", DType::Q4_0),
        ("tiny-llama", DType::F32),
    ] {
        for fuse in [FuseOptions::default(), FuseOptions::none(), rules.clone()] {
            for (phase, isa, memory) in
                [(Phase::Prefill, Isa::Avx2, None), (Phase::Decode, Isa::Scalar, Some(1 << 40))]
            {
                let options = EngineOptions {
                    isa: Some(isa).filter(|i| i.available()),
                    n_ctx: Some(256),
                    fuse: fuse.clone(),
                    memory,
                    ..EngineOptions::default()
                };
                let d = document(shape, dtype, phase, &options);
                let wrong: Vec<String> =
                    validator.iter_errors(&d).map(|e| format!("{}: {e}", e.instance_path())).collect();
                assert!(wrong.is_empty(), "{shape} {dtype} {phase}: {:#?}", &wrong[..wrong.len().min(5)]);
                Plan::from_json(d.to_string().as_bytes(), "p").unwrap();
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 36);
}

#[test]
fn what_does_not_conform_is_not_read() {
    let validator = jsonschema::validator_for(&PlanDocument::schema()).unwrap();
    let options = EngineOptions { n_ctx: Some(256), ..EngineOptions::default() };
    let good = document("tiny-llama", DType::Q8_0, Phase::Decode, &options);
    assert!(validator.is_valid(&good));
    for (at, value) in [
        ("/phase", json!("training")),
        ("/isa", json!("sse2")),
        ("/max_rows", json!(-1)),
        ("/cmds/0/kernel", json!("cpu.embed")),
        ("/cmds/0/n_args", json!(256)),
        ("/operands/0/region", json!("disk")),
        ("/operands/0/dtype", json!("Q9_Z")),
        ("/operands/0/rows", json!({"fixed": "1"})),
        ("/ops/0", json!("teleport")),
        ("/weights/0/ty/shape", json!(["Q"])),
        ("/weights", json!({})),
        ("/totals/work", json!(null)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{at} conforms");
        assert!(Plan::from_json(bad.to_string().as_bytes(), "p").is_err(), "{at} is read");
    }
    let mut short = good.clone();
    short.as_object_mut().unwrap().remove("cmds");
    assert!(!validator.is_valid(&short) && Plan::from_json(short.to_string().as_bytes(), "p").is_err());
}
