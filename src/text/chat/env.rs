//! What templates can use: filters, tests and functions, each paying for its work.

use super::meter::{Meter, Trip};
use super::{operators, python};
use jiff::civil::DateTime;
use minijinja::formatting::{self, FormatStyle};
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters, functions, tests};

/// Most numbers of a `range`.
const MAX_RANGE: i64 = 100_000;

/// Filters that look at their argument without what is in it.
const SHALLOW: &[&str] = &[
    "length",
    "count",
    "first",
    "last",
    "default",
    "d",
    "list",
    "items",
    "reverse",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "attr",
    "batch",
    "slice",
    "trim",
    "upper",
    "lower",
    "bool",
    "int",
    "float",
];

/// An environment without a loader.
pub fn environment(meter: &Meter, now: Option<DateTime>) -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_fuel(Some(meter.fuel()));
    let m = meter.clone();
    env.set_formatter(move |out, _, value| {
        if let Some(s) = value.as_str() {
            m.charge_output(s.len())?;
            return Ok(out.write_str(s)?);
        }
        m.deep(value)?;
        let text = python::text(value);
        m.charge_output(text.len())?;
        Ok(out.write_str(&text)?)
    });
    let m = meter.clone();
    env.set_unknown_method_callback(move |state, value, name, args| {
        python::method(&m, state, value, name, args)
    });
    operators::register(&mut env, meter);
    add_filters(&mut env, meter);
    add_tests(&mut env, meter);
    add_functions(&mut env, meter, now);
    env
}

/// Registers filters of the engine under another name, and under their own what pays and then calls them.
macro_rules! metered {
    ($env:ident, $meter:ident; $($name:literal => $f:expr),* $(,)?) => {$(
        $env.add_filter(concat!("plain ", $name), $f);
        let m = $meter.clone();
        let shallow = SHALLOW.contains(&$name);
        $env.add_filter($name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            for arg in args.iter() {
                if shallow { m.shallow(arg) } else { m.deep(arg) }?;
            }
            let result = state.apply_filter(concat!("plain ", $name), &args)?;
            m.shallow(&result)?;
            Ok::<_, Error>(result)
        });
    )*};
}

fn add_filters(env: &mut Environment<'static>, meter: &Meter) {
    let m = meter.clone();
    let join = move |items: &Value, args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        let (separator, attribute, named): (Option<&str>, Option<Value>, Kwargs) = from_args(&args)?;
        let attribute = attribute.or(named.get("attribute")?);
        let separator = separator.or(named.get("d")?).unwrap_or_default();
        named.assert_all_used()?;
        let picked = match attribute {
            Some(a) => items.try_iter()?.map(|v| v.get_item(&a)).collect::<Result<Vec<_>, _>>()?.into(),
            None => items.clone(),
        };
        m.deep(&picked)?;
        python::join(&m, &picked, separator)
    };
    let m = meter.clone();
    let replace = move |s: String, old: String, new: String, count: Option<i64>| {
        let most = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let found = s.matches(&old).take(most).count();
        m.charge_bytes(s.len().saturating_add(found.saturating_mul(new.len())))?;
        Ok::<_, Error>(s.replacen(&old, &new, most))
    };
    let m = meter.clone();
    let format = move |format: &str, args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        python::check_format(&m, format, &args)?;
        formatting::format(FormatStyle::Printf, format, &args)
    };
    let m = meter.clone();
    let indent = move |s: String, args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        let (width, first, blank, named): (Option<Value>, Option<bool>, Option<bool>, Kwargs) =
            from_args(&args)?;
        let width = width.or(named.get("width")?);
        let by = match width.as_ref().map(|w| (w.as_str(), w.as_usize())) {
            None => "    ".to_owned(),
            Some((Some(text), _)) => text.to_owned(),
            Some((_, n)) => " ".repeat(n.unwrap_or(4).min(1024)),
        };
        let first = first.or(named.get("first")?).unwrap_or(false);
        let blank = blank.or(named.get("blank")?).unwrap_or(false);
        named.assert_all_used()?;
        m.charge_bytes(s.matches('\n').count().saturating_mul(by.len()))?;
        let mut out = String::new();
        for (i, line) in s.split('\n').enumerate() {
            out.push_str(if i > 0 { "\n" } else { "" });
            if (i > 0 || first) && (blank || !line.is_empty()) {
                out.push_str(&by);
            }
            out.push_str(line);
        }
        Ok::<_, Error>(out)
    };
    // Both make as many items as they are told.
    let m = meter.clone();
    let batch = move |state: &State<'_, '_>, v: Value, n: usize, fill: Option<Value>| {
        m.charge(n as u64)?;
        filters::batch(state, v, n, fill)
    };
    let m = meter.clone();
    let slice = move |state: &State<'_, '_>, v: Value, n: usize, fill: Option<Value>| {
        m.charge(n as u64)?;
        filters::slice(state, v, n, fill)
    };
    let escape = |v: &Value| match v.is_safe() {
        true => v.clone(),
        false => python::add_texts(("", true), (&python::text(v), false)),
    };
    let capitalize = |s: String| {
        let mut chars = s.chars();
        let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
        first + &chars.as_str().to_lowercase()
    };
    let for_json = meter.clone();
    metered!(env, meter;
        "abs" => filters::abs, "attr" => filters::attr, "batch" => batch, "bool" => filters::bool,
        "capitalize" => capitalize, "chain" => filters::chain, "count" => filters::length,
        "d" => filters::default, "default" => filters::default, "dictsort" => filters::dictsort,
        "e" => escape, "escape" => escape, "first" => filters::first,
        "float" => filters::float, "format" => format, "groupby" => filters::groupby, "indent" => indent,
        "int" => filters::int, "items" => filters::items, "join" => join, "last" => filters::last,
        "length" => filters::length, "list" => filters::list, "lower" => filters::lower,
        "map" => filters::map, "max" => filters::max, "min" => filters::min, "pprint" => filters::pprint,
        "reject" => filters::reject, "rejectattr" => filters::rejectattr, "replace" => replace,
        "reverse" => filters::reverse, "round" => filters::round, "safe" => |v: &Value| Value::from_safe_string(python::text(v)),
        "select" => filters::select, "selectattr" => filters::selectattr, "slice" => slice,
        "sort" => filters::sort, "split" => filters::split, "string" => |v: &Value| python::text(v),
        "sum" => filters::sum, "title" => |s: String| python::title(&s),
        "tojson" => move |v: &Value, args: Rest<ValueOrKwargs>| python::tojson(&for_json, v, &args.into_values()),
        "trim" => filters::trim, "unique" => filters::unique, "upper" => filters::upper,
    );
}

fn add_tests(env: &mut Environment<'static>, meter: &Meter) {
    operators::register_tests(env, meter);
    env.add_test("boolean", tests::is_boolean);
    env.add_test("callable", |v: &Value| {
        v.as_object().is_some_and(|o| ["Macro", "Function"].iter().any(|n| o.type_name().contains(n)))
    });
    env.add_test("defined", tests::is_defined);
    env.add_test("divisibleby", tests::is_divisibleby);
    env.add_test("even", tests::is_even);
    env.add_test("false", tests::is_false);
    env.add_test("filter", tests::is_filter);
    env.add_test("float", tests::is_float);
    env.add_test("integer", tests::is_integer);
    // A text can be walked through and indexed in Python, and what is undefined is an empty list.
    env.add_test("iterable", |v: &Value| python::is_iterable(v));
    env.add_test("lower", tests::is_lower);
    env.add_test("mapping", tests::is_mapping);
    env.add_test("none", tests::is_none);
    env.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("odd", tests::is_odd);
    env.add_test("sameas", tests::is_sameas);
    env.add_test("sequence", |v: &Value| {
        matches!(v.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map) || v.is_tuple()
    });
    env.add_test("string", tests::is_string);
    env.add_test("test", tests::is_test);
    env.add_test("true", tests::is_true);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("upper", tests::is_upper);
}

fn add_functions(env: &mut Environment<'static>, meter: &Meter, now: Option<DateTime>) {
    env.add_function("namespace", functions::namespace);
    env.add_function("dict", functions::dict);
    env.add_function("cycler", minijinja_contrib::globals::cycler);
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    let m = meter.clone();
    env.add_function("range", move |a: i64, b: Option<i64>, step: Option<i64>| {
        let (start, stop) = b.map_or((0, a), |b| (a, b));
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Error::new(ErrorKind::InvalidOperation, "range with a step of 0"));
        }
        let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
        let n = span.max(0) as u64 / step.unsigned_abs();
        if n > MAX_RANGE as u64 {
            return Err(m.trip(Trip::Budget, format!("range() of more than {MAX_RANGE} numbers")));
        }
        let mut numbers = Vec::new();
        let mut at = start;
        m.charge(n + 1)?;
        while if step > 0 { at < stop } else { at > stop } {
            numbers.push(Value::from(at));
            at = at.saturating_add(step);
        }
        Ok(Value::from(numbers))
    });
    let m = meter.clone();
    env.add_function("raise_exception", move |text: &Value| {
        Err::<Value, _>(m.trip(Trip::Raised, python::text(text)))
    });
    env.add_function("strftime_now", move |format: &str| {
        let now = now.unwrap_or_else(|| jiff::Zoned::now().datetime());
        // Formats are written for C libraries; what they know more than this one is an error, not a guess.
        jiff::fmt::strtime::format(format, now)
            .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
    });
}
