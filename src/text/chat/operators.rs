//! Operators as functions that charge for their work first, then do what the engine does.
//!
//! Their names have a blank, so no template can call or replace them.

use super::meter::{Meter, Trip};
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression};
use std::sync::LazyLock;

pub const ADD: &str = "op add";
pub const MUL: &str = "op mul";
pub const CONCAT: &str = "op concat";
pub const IN: &str = "op in";
pub const EQ: &str = "op eq";
pub const NE: &str = "op ne";
pub const LT: &str = "op lt";
pub const LE: &str = "op le";
pub const GT: &str = "op gt";
pub const GE: &str = "op ge";
pub const SLICE: &str = "op slice";
/// Charges for a value and all in it and returns it.
pub const PAY: &str = "op pay";
/// As [`PAY`], for a value that a namespace will hold.
pub const KEEP: &str = "op keep";
/// Charges for what a loop goes through and returns it.
pub const EACH: &str = "op each";

/// The engine as it is, for operators on any kinds of values.
static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::empty);

/// An operator as an expression of the engine.
struct Engine(LazyLock<Option<Expression<'static, 'static>>>);

impl Engine {
    fn eval(&self, names: &[&'static str], values: &[Value]) -> Result<Value, Error> {
        let context = Value::from_pairs(names.iter().copied().zip(values.iter().cloned()));
        match &*self.0 {
            // The place in the expression says nothing to anyone.
            Some(e) => e.eval(context).map_err(|e| Error::new(e.kind(), detail(&e))),
            None => Err(ErrorKind::InvalidOperation.into()),
        }
    }
}

static ADDITION: Engine = Engine(LazyLock::new(|| PLAIN.compile_expression("a + b").ok()));
static PRODUCT: Engine = Engine(LazyLock::new(|| PLAIN.compile_expression("a * b").ok()));
static CONTAINS: Engine = Engine(LazyLock::new(|| PLAIN.compile_expression("a in b").ok()));
static PART: Engine = Engine(LazyLock::new(|| PLAIN.compile_expression("a[b:c:d]").ok()));

fn detail(e: &Error) -> String {
    e.detail().unwrap_or_default().to_owned()
}

/// Registers all operators.
pub fn register(env: &mut Environment<'_>, meter: &Meter) {
    let m = meter.clone();
    env.add_function(ADD, move |a: &Value, b: &Value| {
        m.shallow(a)?;
        m.shallow(b)?;
        let safe = (a.is_safe(), b.is_safe());
        if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
            return Ok(super::python::add_texts((a, safe.0), (b, safe.1)));
        }
        ADDITION.eval(&["a", "b"], &[a.clone(), b.clone()])
    });
    let m = meter.clone();
    env.add_function(MUL, move |a: &Value, b: &Value| {
        let size = |v: &Value| v.as_str().map(str::len).or_else(|| v.as_object().and(v.len()));
        if let Some(size) = size(a).or_else(|| size(b)) {
            let times = a.as_usize().or_else(|| b.as_usize()).unwrap_or(0);
            m.charge((size as u64).saturating_mul(times as u64))?;
        }
        PRODUCT.eval(&["a", "b"], &[a.clone(), b.clone()])
    });
    let m = meter.clone();
    env.add_function(CONCAT, move |a: &Value, b: &Value| {
        m.deep(a)?;
        m.deep(b)?;
        let text = [super::python::text(a), super::python::text(b)].concat();
        m.charge_bytes(text.len())?;
        Ok::<_, Error>(Value::from(text))
    });
    let m = meter.clone();
    env.add_function(IN, move |a: &Value, b: &Value| contains(&m, a, b));
    for (name, op) in COMPARISONS {
        let m = meter.clone();
        env.add_function(*name, move |a: &Value, b: &Value| {
            m.deep(a)?;
            m.deep(b)?;
            Ok::<_, Error>(op(a, b))
        });
    }
    let m = meter.clone();
    env.add_function(SLICE, move |a: Value, b: Value, c: Value, d: Value| {
        m.shallow(&a)?;
        if let Some(step) = d.as_i64().filter(|n| *n < 0) {
            return super::python::slice_back(&a, &b, &c, step);
        }
        PART.eval(&["a", "b", "c", "d"], &[a, b, c, d])
    });
    let m = meter.clone();
    env.add_function(EACH, move |a: Value| {
        m.shallow(&a)?;
        if let Some(s) = a.as_str() {
            m.charge(s.len() as u64)?;
            return Ok(s.chars().map(|c| Value::from(c.to_string())).collect());
        }
        if super::python::is_iterable(&a) {
            return Ok(a);
        }
        Err(Error::new(ErrorKind::InvalidOperation, format!("a {} cannot be looped over", a.kind())))
    });
    let m = meter.clone();
    env.add_function(PAY, move |a: Value| m.deep(&a).map(|()| a));
    let m = meter.clone();
    env.add_function(KEEP, move |a: Value| {
        m.deep(&a)?;
        // A namespace that holds itself could be neither printed nor freed.
        if holds_namespace(&a) {
            return Err(m.trip(Trip::Depth, "a namespace within a namespace"));
        }
        Ok::<_, Error>(a)
    });
}

/// An operator that gives a truth value.
type Comparison = fn(&Value, &Value) -> bool;

const COMPARISONS: &[(&str, Comparison)] = &[
    (EQ, |a, b| a == b),
    (NE, |a, b| a != b),
    (LT, |a, b| a < b),
    (LE, |a, b| a <= b),
    (GT, |a, b| a > b),
    (GE, |a, b| a >= b),
];

/// Whether a value is or holds an object of the engine that can be written to. Its depth has been checked.
fn holds_namespace(value: &Value) -> bool {
    if let Some(object) = value.as_object()
        && object.type_name().contains("Namespace")
    {
        return true;
    }
    match value.kind() {
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|v| holds_namespace(&v))),
        ValueKind::Map => value
            .try_iter()
            .is_ok_and(|mut keys| keys.any(|k| value.get_item(&k).is_ok_and(|v| holds_namespace(&v)))),
        _ => false,
    }
}

/// Registers comparisons as tests, under all their names.
pub fn register_tests(env: &mut Environment<'_>, meter: &Meter) {
    const NAMES: &[(&str, &[&str])] = &[
        (EQ, &["eq", "equalto", "=="]),
        (NE, &["ne", "!="]),
        (LT, &["lt", "lessthan", "<"]),
        (LE, &["le", "<="]),
        (GT, &["gt", "greaterthan", ">"]),
        (GE, &["ge", ">="]),
    ];
    for (op, names) in NAMES {
        let Some((_, compare)) = COMPARISONS.iter().find(|(name, _)| name == op) else { continue };
        for name in *names {
            let m = meter.clone();
            env.add_test(*name, move |a: &Value, b: &Value| {
                m.deep(a)?;
                m.deep(b)?;
                Ok::<_, Error>(compare(a, b))
            });
        }
    }
    let m = meter.clone();
    env.add_test("in", move |a: &Value, b: &Value| contains(&m, a, b).map(|v| v.is_true()));
}

/// Whether `a` is in `b`.
fn contains(m: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    m.deep(a)?;
    if b.kind() == ValueKind::Map { m.charge(1) } else { m.deep(b) }?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return Ok(Value::from(b.contains(a)));
    }
    CONTAINS.eval(&["a", "b"], &[a.clone(), b.clone()])
}
