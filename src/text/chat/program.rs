//! From the text of a template to instructions whose work is paid for.
//!
//! The engine's own budget counts instructions, but one instruction can join two texts of a megabyte. So operators
//! become calls of functions that charge the [`Meter`](super::meter::Meter) first ([`super::operators`]), text goes
//! out through the formatter, which charges too, and values that are built are checked for their depth.

use super::meter::{Meter, Trip};
use super::operators as op;
use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt};
use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::collections::BTreeMap;

/// Name of every template in the engine's messages.
pub const NAME: &str = "chat";
/// Most tokens in one tag. Chains of operators are trees as deep as they are long, and are walked by recursion.
const MAX_TAG_TOKENS: usize = 4096;
/// Most `elif` of a template: each is nested in the one before it.
const MAX_ELIFS: usize = 2000;
/// Longest text that repetition of a literal may make while compiling.
const MAX_CONST_BYTES: usize = 1 << 16;

/// A compiled template.
pub struct Program<'s> {
    pub main: Instructions<'s>,
    pub blocks: BTreeMap<&'s str, Instructions<'s>>,
}

/// Block tags eat the newline behind them and the blanks before them, as where these templates are written.
fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// Replaces `{% generation %}`, which marks what a trainer looks at, by a condition that holds, and refuses tags
/// that are too long.
pub fn prepare(source: &str, meter: &Meter) -> Result<String, Error> {
    let mut out = String::with_capacity(source.len());
    let (mut copied, mut in_tag, mut opened, mut elifs) = (0, 0, false, 0);
    for token in tokenize(source, false, syntax()?) {
        let (token, span) = token?;
        in_tag = match token {
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => 0,
            _ => in_tag + 1,
        };
        if in_tag > MAX_TAG_TOKENS {
            return Err(meter.trip(Trip::Depth, "one tag has too many parts"));
        }
        elifs += usize::from(opened && matches!(token, Token::Ident("elif")));
        if elifs > MAX_ELIFS {
            return Err(meter.trip(Trip::Depth, "too many conditions"));
        }
        let new = match token {
            Token::Ident("generation") if opened => "if true",
            Token::Ident("endgeneration") if opened => "endif",
            _ => "",
        };
        opened = matches!(token, Token::BlockStart);
        if !new.is_empty() {
            let (start, end) = (span.start_offset as usize, span.end_offset as usize);
            out.push_str(source.get(copied..start).unwrap_or_default());
            out.push_str(new);
            copied = end;
        }
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    Ok(out)
}

/// Compiles what [`prepare`] made.
pub fn compile<'s>(source: &'s str, meter: &Meter) -> Result<Program<'s>, Error> {
    let tree = parse(source, NAME, syntax()?)?;
    check_stmt(&tree, meter)?;
    let mut generator = CodeGenerator::new(NAME, source);
    generator.compile_stmt(&tree);
    let (main, blocks) = generator.finish();
    let main = charge_for_work(&main, source)?;
    let blocks = blocks.into_iter().map(|(name, b)| Ok((name, charge_for_work(&b, source)?)));
    Ok(Program { main, blocks: blocks.collect::<Result<_, Error>>()? })
}

/// Writes instructions anew with what charges for them.
fn charge_for_work<'s>(old: &Instructions<'s>, source: &'s str) -> Result<Instructions<'s>, Error> {
    let mut new = Instructions::new(NAME, source);
    // Where each old instruction begins in the new ones.
    let mut begins: Vec<u32> = Vec::new();
    let mut count = 0;
    for i in 0.. {
        begins.push(count);
        let Some(instruction) = old.get(i) else { break };
        let mut put = |instruction| {
            count += 1;
            match (old.get_span(i), old.get_line(i)) {
                (Some(span), _) => new.add_with_span(instruction, span),
                (None, Some(line)) => new.add_with_line(instruction, line as u16),
                (None, None) => new.add(instruction),
            };
        };
        let call = |name, n| Instruction::CallFunction(name, Some(n));
        match instruction {
            Instruction::EmitRaw(text) => {
                put(Instruction::LoadConst(Value::from(*text)));
                put(Instruction::Emit);
            }
            Instruction::Add => put(call(op::ADD, 2)),
            Instruction::Mul => put(call(op::MUL, 2)),
            Instruction::StringConcat => put(call(op::CONCAT, 2)),
            Instruction::In => put(call(op::IN, 2)),
            Instruction::Eq => put(call(op::EQ, 2)),
            Instruction::Ne => put(call(op::NE, 2)),
            Instruction::Lt => put(call(op::LT, 2)),
            Instruction::Lte => put(call(op::LE, 2)),
            Instruction::Gt => put(call(op::GT, 2)),
            Instruction::Gte => put(call(op::GE, 2)),
            Instruction::Slice => put(call(op::SLICE, 4)),
            Instruction::CompareAndPreserve(_) | Instruction::UnpackLists(1) => {
                put(call(op::PAY, 1));
                put(instruction.clone());
            }
            Instruction::UnpackLists(_) | Instruction::MergeKwargs(_) => {
                let line = old.get_line(i).unwrap_or(0);
                let text = format!("line {line}: unpacking arguments beside others is not supported");
                return Err(Error::new(ErrorKind::SyntaxError, text));
            }
            Instruction::PushLoop(_) => {
                put(call(op::EACH, 1));
                put(instruction.clone());
            }
            Instruction::BuildList(Some(0)) | Instruction::BuildTuple(Some(0)) | Instruction::BuildMap(0) => {
                put(instruction.clone());
            }
            Instruction::BuildList(_) | Instruction::BuildTuple(_) | Instruction::BuildMap(_) => {
                put(instruction.clone());
                put(call(op::PAY, 1));
            }
            Instruction::SetAttr(_) => {
                // The namespace is on top, the value below it.
                put(Instruction::Swap);
                put(call(op::KEEP, 1));
                put(Instruction::Swap);
                put(instruction.clone());
            }
            other => put(other.clone()),
        }
    }
    let place = |target: u32| begins.get(target as usize).copied().unwrap_or(target);
    for i in 0..count {
        if let Some(
            Instruction::Iterate(t)
            | Instruction::Jump(t)
            | Instruction::JumpIfFalse(t)
            | Instruction::JumpIfFalseOrPop(t)
            | Instruction::JumpIfTrueOrPop(t)
            | Instruction::BuildMacro(_, t, _),
        ) = new.get_mut(i)
        {
            *t = place(*t);
        }
    }
    Ok(new)
}

type Checked = Result<(), Error>;

fn check_stmts(stmts: &[Stmt<'_>], m: &Meter) -> Checked {
    stmts.iter().try_for_each(|s| check_stmt(s, m))
}

/// Looks for constants that would be repeated into something large while compiling.
fn check_stmt(stmt: &Stmt<'_>, m: &Meter) -> Checked {
    match stmt {
        Stmt::Template(s) => check_stmts(&s.children, m),
        Stmt::EmitExpr(s) => check(&s.expr, m),
        Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
        Stmt::ForLoop(s) => {
            check(&s.iter, m)?;
            check_some(&s.filter_expr, m)?;
            check_stmts(&s.body, m)?;
            check_stmts(&s.else_body, m)
        }
        Stmt::IfCond(s) => {
            check(&s.expr, m)?;
            check_stmts(&s.true_body, m)?;
            check_stmts(&s.false_body, m)
        }
        Stmt::WithBlock(s) => {
            s.assignments.iter().try_for_each(|(_, e)| check(e, m))?;
            check_stmts(&s.body, m)
        }
        Stmt::Set(s) => {
            check(&s.target, m)?;
            check(&s.expr, m)
        }
        Stmt::SetBlock(s) => {
            check_some(&s.filter, m)?;
            check_stmts(&s.body, m)
        }
        Stmt::AutoEscape(s) => {
            check(&s.enabled, m)?;
            check_stmts(&s.body, m)
        }
        Stmt::FilterBlock(s) => {
            check(&s.filter, m)?;
            check_stmts(&s.body, m)
        }
        Stmt::Block(s) => check_stmts(&s.body, m),
        Stmt::Import(s) => check(&s.expr, m),
        Stmt::FromImport(s) => check(&s.expr, m),
        Stmt::Extends(s) => check(&s.name, m),
        Stmt::Include(s) => check(&s.name, m),
        Stmt::Macro(s) => {
            s.defaults.iter().try_for_each(|e| check(e, m))?;
            check_stmts(&s.body, m)
        }
        Stmt::CallBlock(s) => {
            check(&s.call.expr, m)?;
            check_args(&s.call.args, m)?;
            s.macro_decl.defaults.iter().try_for_each(|e| check(e, m))?;
            check_stmts(&s.macro_decl.body, m)
        }
        Stmt::Do(s) => {
            check(&s.call.expr, m)?;
            check_args(&s.call.args, m)
        }
    }
}

fn check_some(expr: &Option<Expr<'_>>, m: &Meter) -> Checked {
    expr.as_ref().map_or(Ok(()), |e| check(e, m))
}

fn check_args(args: &[CallArg<'_>], m: &Meter) -> Checked {
    args.iter().try_for_each(|a| match a {
        CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => check(e, m),
    })
}

fn check(expr: &Expr<'_>, m: &Meter) -> Checked {
    match expr {
        Expr::Var(_) | Expr::Const(_) => Ok(()),
        Expr::Slice(e) => {
            check(&e.expr, m)?;
            [&e.start, &e.stop, &e.step].into_iter().try_for_each(|e| check_some(e, m))
        }
        Expr::UnaryOp(e) => check(&e.expr, m),
        Expr::BinOp(e) => {
            check(&e.left, m)?;
            check(&e.right, m)?;
            match e.op {
                BinOpKind::Mul => check_repeat(&e.left, &e.right, m),
                _ => Ok(()),
            }
        }
        Expr::Compare(e) => {
            check(&e.expr, m)?;
            e.ops.iter().try_for_each(|o| check(&o.expr, m))
        }
        Expr::IfExpr(e) => {
            check(&e.test_expr, m)?;
            check(&e.true_expr, m)?;
            check_some(&e.false_expr, m)
        }
        Expr::Filter(e) => {
            check_some(&e.expr, m)?;
            check_args(&e.args, m)
        }
        Expr::Test(e) => {
            check(&e.expr, m)?;
            check_args(&e.args, m)
        }
        Expr::GetAttr(e) => check(&e.expr, m),
        Expr::GetItem(e) => {
            check(&e.expr, m)?;
            check(&e.subscript_expr, m)
        }
        Expr::Call(e) => {
            check(&e.expr, m)?;
            check_args(&e.args, m)
        }
        Expr::List(e) => e.items.iter().try_for_each(|e| check(e, m)),
        Expr::Tuple(e) => e.items.iter().try_for_each(|e| check(e, m)),
        Expr::Map(e) => e.keys.iter().chain(&e.values).try_for_each(|e| check(e, m)),
    }
}

/// A product of constants is computed while compiling: numbers may be, and short repetitions of a literal.
fn check_repeat(left: &Expr<'_>, right: &Expr<'_>, m: &Meter) -> Checked {
    // Neither side holds a large repetition: those were refused further down.
    let (Some(left), Some(right)) = (left.as_const(), right.as_const()) else { return Ok(()) };
    let number = |v: &Value| v.kind() == ValueKind::Number || v.kind() == ValueKind::Bool;
    if number(&left) && number(&right) {
        return Ok(());
    }
    let (repeated, times) = if number(&right) { (left, right) } else { (right, left) };
    let size = repeated.as_str().map_or_else(|| repeated.len(), |s| Some(s.len()));
    let total = size.unwrap_or(0).checked_mul(times.as_usize().unwrap_or(0));
    match total {
        Some(n) if n <= MAX_CONST_BYTES => Ok(()),
        _ => Err(m.trip(Trip::Budget, "a literal is repeated too often")),
    }
}
