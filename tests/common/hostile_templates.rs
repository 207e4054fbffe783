//! Chat templates that are attacks.

/// Templates that try to hang, to fill memory, to overflow the stack or to reach outside, and the code that ends them.
/// The numbers are those of a list of hostile input that the project keeps.
pub fn hostile() -> Vec<(&'static str, String, &'static str)> {
    let case = |what, text: &str, code| (what, text.to_owned(), code);
    let grow = |step: &str| {
        format!(
            "{{% set ns = namespace(x='abcdefgh') %}}{{% for i in range(99) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
        )
    };
    let nested = |n: usize, open: &str, close: &str| format!("{}x{}", open.repeat(n), close.repeat(n));
    vec![
        case("100 syntax", "one\n{% if %}", "TemplateSyntax"),
        ("101 nested conditions", nested(10_000, "{% if true %}", "{% endif %}"), "TemplateTooDeep"),
        case(
            "102 a macro that calls itself",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "TemplateTooDeep",
        ),
        case("103 a long range", "{% for i in range(10**9) %}x{% endfor %}", "TemplateBudget"),
        ("104 nested loops", nested(4, "{% for i in range(1000) %}", "{% endfor %}"), "TemplateBudget"),
        case("105 a long literal", "{{ 'a' * 10**9 }}", "TemplateBudget"),
        case("105 a long product", "{% set n = 10**9 %}{{ 'a' * n }}", "TemplateBudget"),
        case("106 a class", "{{ ''.__class__.__mro__ }}", "TemplateUndefined"),
        case("106 globals", "{{ cycler.__init__.__globals__ }}", "TemplateUndefined"),
        case("107 another file", "{% include '/etc/passwd' %}", "TemplateNotFound"),
        case("107 a parent", "{% extends '/etc/passwd' %}", "TemplateNotFound"),
        ("108 a long template", "x".repeat(20_000_000), "TemplateTooLarge"),
        case("109 a refusal", "{{ raise_exception('x') }}", "TemplateRefused"),
        ("doubling by ~", grow("ns.x ~ ns.x"), "TemplateBudget"),
        ("doubling by +", grow("ns.x + ns.x"), "TemplateBudget"),
        ("doubling by join", grow("[ns.x, ns.x] | join"), "TemplateBudget"),
        ("doubling by a method", grow("ns.x.replace('a', ns.x)"), "TemplateBudget"),
        ("doubling by a filter", grow("ns.x | replace('a', ns.x)"), "TemplateBudget"),
        ("doubling of lists", grow("[ns.x, ns.x]") + "{{ ns.x }}", "TemplateBudget"),
        (
            "doubling by a macro",
            "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}".to_owned() + &grow("f(ns.x)"),
            "OutputTooLarge",
        ),
        ("deep values", grow("[ns.x]").replace("99", "99999"), "TemplateTooDeep"),
        case(
            "a namespace in itself",
            "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x }}",
            "TemplateTooDeep",
        ),
        case(
            "much output",
            "{% for i in range(99999) %}a line of text that is repeated, and then repeated again, and once more, then again, and again{% endfor %}",
            "OutputTooLarge",
        ),
        case(
            "search",
            "{% for i in range(99999) %}{% if -1 in range(99999) %}{% endif %}{% endfor %}",
            "TemplateBudget",
        ),
        case("sums", "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}", "TemplateBudget"),
        case(
            "filters in filters",
            "{{ range(99999) | select('in', range(99999)) | list }}",
            "TemplateBudget",
        ),
        case(
            "comparisons",
            "{% set x = 'a' * 60000 %}{% for i in range(99999) %}{% if x < x < x %}{% endif %}{% endfor %}",
            "TemplateBudget",
        ),
        case("recursion", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "TemplateTooDeep"),
        case("blocks", "{% block a %}{{ self.a() }}{% endblock %}", "TemplateTooDeep"),
        case("a wide field", "{{ '%999999999d' | format(1) }}", "TemplateBudget"),
        case("a wide field of a method", "{{ '{:>999999999}'.format('x') }}", "TemplateBudget"),
        case("many slices", "{{ [1] | slice(10**9) | list }}", "TemplateBudget"),
        case("a large batch", "{{ [1] | batch(10**9, 0) | list }}", "TemplateBudget"),
        case("a long tuple", "{% set t = (1, 2) %}{{ t * 10**9 }}", "TemplateBudget"),
        case("deep indents", "{{ ('\\n' * 60000) | indent(1000) }}", "TemplateBudget"),
        ("a long chain", format!("{{{{ 1{} }}}}", "+1".repeat(400_000)), "TemplateTooDeep"),
        ("a chain of filters", format!("{{{{ 1{} }}}}", "|abs".repeat(200_000)), "TemplateTooDeep"),
        (
            "many conditions",
            format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(50_000)),
            "TemplateTooDeep",
        ),
        ("brackets", format!("{{{{ {} }}}}", nested(3_000, "(", ")")), "TemplateTooDeep"),
        case("an unknown filter", "{{ 1 | frobnicate }}", "TemplateError"),
        case("nothing to loop over", "{% for x in none %}{% endfor %}", "TemplateError"),
        case("arguments", "{{ range(1, *[2]) }}", "TemplateSyntax"),
    ]
}
