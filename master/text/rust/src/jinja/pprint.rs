//! The pprint filter: Python's pformat, 80 columns wide.
use super::repr::repr;
use super::value::Value;
use super::{budget, ops, strings, Dict, Res};
use std::cmp::Ordering;
use std::rc::Rc;

const WIDTH: usize = 80;

pub fn format(value: &Value) -> Res<String> {
    let mut out = String::new();
    write(&mut out, &sorted(value)?, 0, 0, 1)?;
    budget::text(out.len())?;
    Ok(out)
}

/// The same with every dict's members in the order of their keys.
fn sorted(value: &Value) -> Res<Value> {
    budget::step()?;
    let all = |items: &[Value]| items.iter().map(sorted).collect::<Res<Vec<_>>>();
    Ok(match value {
        Value::List(seq) => Value::list(all(&seq.items)?)?,
        Value::Tuple(seq) => Value::tuple(all(&seq.items)?)?,
        Value::Dict(dict) => {
            let before = &mut |(a, _): &(&Value, _), (b, _): &(&Value, _)| {
                budget::step()?;
                Ok(match ops::order("<", a, b) {
                    Ok(order) => order == Some(Ordering::Less),
                    Err(_) => a.type_name() < b.type_name(),
                })
            };
            let members = ops::sort(dict.iter().collect(), before)?;
            let mut out = Dict::default();
            for (key, value) in members {
                out.insert(key.clone(), sorted(value)?)?;
            }
            Value::Dict(Rc::new(out))
        }
        other => other.clone(),
    })
}

/// `allowance`: what must still fit behind it in the line.
fn write(out: &mut String, value: &Value, indent: usize, allowance: usize, level: usize) -> Res<()> {
    let text = repr(value)?;
    if text.chars().count() <= WIDTH.saturating_sub(indent + allowance) {
        out.push_str(&text);
        return Ok(());
    }
    match value {
        Value::List(seq) => write_items(out, &seq.items, ("[", "]"), (indent, allowance, level)),
        Value::Tuple(seq) => {
            let end = if seq.items.len() == 1 { ",)" } else { ")" };
            write_items(out, &seq.items, ("(", end), (indent, allowance, level))
        }
        Value::Dict(dict) => {
            out.push('{');
            for (index, (key, value)) in dict.iter().enumerate() {
                let key = repr(key)?;
                out.push_str(&key);
                out.push_str(": ");
                let last = index + 1 == dict.len();
                let behind = if last { allowance + 1 } else { 1 };
                write(out, value, indent + 3 + key.chars().count(), behind, level + 1)?;
                if !last {
                    new_line(out, indent + 1)?;
                }
            }
            out.push('}');
            Ok(())
        }
        Value::Str(text) => write_text(out, text, indent, allowance, level),
        _ => {
            out.push_str(&text);
            Ok(())
        }
    }
}

fn new_line(out: &mut String, indent: usize) -> Res<()> {
    budget::output(out.len() + indent)?;
    out.push_str(",\n");
    out.push_str(&" ".repeat(indent));
    Ok(())
}

fn write_items(out: &mut String, items: &[Value], ends: (&str, &str), at: (usize, usize, usize)) -> Res<()> {
    let (indent, allowance, level) = at;
    out.push_str(ends.0);
    for (index, item) in items.iter().enumerate() {
        let last = index + 1 == items.len();
        write(
            out,
            item,
            indent + 1,
            if last { allowance + ends.1.len() } else { 1 },
            level + 1,
        )?;
        if !last {
            new_line(out, indent + 1)?;
        }
    }
    out.push_str(ends.1);
    Ok(())
}

/// A long text is cut at its line ends and between words into several literals.
fn write_text(out: &mut String, text: &str, indent: usize, allowance: usize, level: usize) -> Res<()> {
    let top = usize::from(level == 1);
    let (indent, allowance) = (indent + top, allowance + top);
    let width = WIDTH.saturating_sub(indent);
    let literal = |text: &str| repr(&Value::text(text));
    let fits = |literal: &str, width: usize| literal.chars().count() <= width;
    let mut chunks = Vec::new();
    let lines = strings::lines(text, true);
    for (index, line) in lines.iter().enumerate() {
        let last_line = index + 1 == lines.len();
        let behind = |last: bool| if last { width.saturating_sub(allowance) } else { width };
        let whole = literal(line)?;
        if fits(&whole, behind(last_line)) {
            chunks.push(whole);
            continue;
        }
        let mut current = String::new();
        let mut rest = *line;
        while !rest.is_empty() {
            let word = rest.find(strings::is_space).unwrap_or(rest.len());
            let space = rest[word..].len() - rest[word..].trim_start_matches(strings::is_space).len();
            let part = &rest[..word + space];
            rest = &rest[word + space..];
            let candidate = format!("{current}{part}");
            if fits(&literal(&candidate)?, behind(rest.is_empty() && last_line)) {
                current = candidate;
                continue;
            }
            if !current.is_empty() {
                chunks.push(literal(&current)?);
            }
            current = part.to_string();
        }
        if !current.is_empty() {
            chunks.push(literal(&current)?);
        }
    }
    let several = chunks.len() > 1;
    if several && level == 1 {
        out.push('(');
    }
    budget::output(out.len() + chunks.len().saturating_mul(indent))?;
    out.push_str(&chunks.join(&format!("\n{}", " ".repeat(indent))));
    if several && level == 1 {
        out.push(')');
    }
    Ok(())
}
