//! Filters of sequences and mappings.
use super::args::{Args, Bound};
use super::filters::{self, follow};
use super::repr::to_str;
use super::value::{Object, Value};
use super::{budget, fault, ops, tests, Res};
use std::cmp::Ordering;

/// The arguments come back when `name` is not here.
pub fn apply(name: &str, value: &Value, args: Args) -> Result<Res<Value>, Args> {
    Ok(match name {
        "map" => map(value, args),
        "select" | "reject" => select(value, args, false, name == "select"),
        "selectattr" | "rejectattr" => select(value, args, true, name == "selectattr"),
        "join" => args.bind("join", &["d", "attribute"]).and_then(|a| join(value, a)),
        "sum" => args.bind("sum", &["attribute", "start"]).and_then(|a| sum(value, a)),
        "min" | "max" => {
            let args = args.bind("min", &["case_sensitive", "attribute"]);
            args.and_then(|a| {
                extreme(
                    value,
                    a,
                    if name == "min" {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    },
                )
            })
        }
        "sort" => args
            .bind("sort", &["reverse", "case_sensitive", "attribute"])
            .and_then(|a| sort(value, a)),
        "dictsort" => args
            .bind("dictsort", &["case_sensitive", "by", "reverse"])
            .and_then(|a| dict_sort(value, a)),
        "unique" => args
            .bind("unique", &["case_sensitive", "attribute"])
            .and_then(|a| unique(value, a)),
        "groupby" => args
            .bind("groupby", &["attribute", "default", "case_sensitive"])
            .and_then(|a| group(value, a)),
        "batch" => args
            .bind("batch", &["linecount", "fill_with"])
            .and_then(|a| filters::batch(value, a)),
        "slice" => args
            .bind("slice", &["slices", "fill_with"])
            .and_then(|a| filters::slice(value, a)),
        "first" | "last" | "list" | "random" | "reverse" | "items" => {
            args.bind("filter", &[]).and_then(|_| match name {
                "first" => first(value),
                "last" => last(value),
                "list" => Value::list(value.items()?),
                "random" => filters::random(value),
                "reverse" => reverse(value),
                _ => items(value),
            })
        }
        _ => return Err(args),
    })
}

fn first(value: &Value) -> Res<Value> {
    if let Value::Object(object) = value {
        if let Object::Iterator(_, items, _) = &**object {
            let next = items.borrow_mut().pop_front();
            return Ok(next.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")));
        }
    }
    let first = value.items()?.into_iter().next();
    Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")))
}

fn reversible(value: &Value) -> Res<bool> {
    let iterator = matches!(value, Value::Object(o) if matches!(&**o, Object::Iterator(..) | Object::Loop(_)));
    Ok(!iterator && value.length()?.is_some())
}

fn last(value: &Value) -> Res<Value> {
    if !reversible(value)? {
        return fault(format!("'{}' object is not reversible", value.type_name()));
    }
    let last = value.items()?.pop();
    Ok(last.unwrap_or_else(|| Value::undefined("No last item, sequence was empty.")))
}

fn reverse(value: &Value) -> Res<Value> {
    if let Some(text) = value.as_str() {
        budget::text(text.len())?;
        return Ok(Value::text(text.chars().rev().collect::<String>()));
    }
    let mut items = value.items()?;
    items.reverse();
    match reversible(value)? {
        true => Value::iterator("reversed", items),
        false => Value::list(items),
    }
}

fn items(value: &Value) -> Res<Value> {
    match value {
        Value::Undefined(_) => Value::iterator("do_items", Vec::new()),
        Value::Dict(dict) => {
            let pairs = dict.iter().map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()]));
            Value::iterator("do_items", pairs.collect::<Res<_>>()?)
        }
        _ => fault("Can only get item pairs from a mapping."),
    }
}

fn map(value: &Value, mut args: Args) -> Res<Value> {
    let mut out = Vec::new();
    if !value.is_true() {
        return Value::iterator("do_map", out);
    }
    if args.positional.is_empty() {
        let args = args.bind("map", &["attribute", "default"])?;
        let path = args.need(0)?;
        for item in value.items()? {
            budget::step()?;
            let found = follow(&item, path)?;
            out.push(match (found.is_undefined(), args.get(1)) {
                (true, Some(default)) if !matches!(default, Value::None) => default.clone(),
                _ => found,
            });
        }
        return Value::iterator("do_map", out);
    }
    let name = to_str(&args.positional.remove(0))?.into_owned();
    let _level = budget::level()?; // map may apply map
    for item in value.items()? {
        budget::items(args.positional.len() + 4)?;
        let args = Args {
            positional: args.positional.clone(),
            named: args.named.clone(),
        };
        out.push(filters::apply(&name, &item, args)?);
    }
    Value::iterator("do_map", out)
}

fn select(value: &Value, mut args: Args, attribute: bool, keep: bool) -> Res<Value> {
    let mut out = Vec::new();
    if !value.is_true() {
        return Value::iterator("do_select", out);
    }
    if attribute && args.positional.is_empty() {
        return fault("Missing parameter for attribute name");
    }
    let path = attribute.then(|| args.positional.remove(0));
    let test = if args.positional.is_empty() {
        None
    } else {
        Some(to_str(&args.positional.remove(0))?.into_owned())
    };
    for item in value.items()? {
        budget::items(args.positional.len() + 4)?;
        let looked = match &path {
            Some(path) => follow(&item, path)?,
            None => item.clone(),
        };
        let passes = match &test {
            Some(test) => {
                let args = Args {
                    positional: args.positional.clone(),
                    named: args.named.clone(),
                };
                tests::apply(test, &looked, args)?
            }
            None => looked.is_true(),
        };
        if passes == keep {
            out.push(item);
        }
    }
    Value::iterator("do_select", out)
}

fn join(value: &Value, args: Bound) -> Res<Value> {
    let separator = match args.get(0) {
        Some(separator) => to_str(separator)?.into_owned(),
        None => String::new(),
    };
    let mut out = String::new();
    for (index, item) in value.items()?.iter().enumerate() {
        budget::step()?;
        if index > 0 {
            out.push_str(&separator);
        }
        match args.get(1) {
            Some(path) if !matches!(path, Value::None) => out.push_str(&to_str(&follow(item, path)?)?),
            _ => out.push_str(&to_str(item)?),
        }
        budget::output(out.len())?;
    }
    budget::text(out.len())?;
    Ok(Value::text(out))
}

fn sum(value: &Value, args: Bound) -> Res<Value> {
    let mut total = args.get(1).cloned().unwrap_or(Value::Int(0));
    if total.as_str().is_some() {
        return fault("sum() can't sum strings [use ''.join(seq) instead]");
    }
    for item in value.items()? {
        budget::step()?;
        let item = match args.get(0) {
            Some(path) if !matches!(path, Value::None) => follow(&item, path)?,
            _ => item,
        };
        total = ops::binary(super::ast::Binary::Add, &total, &item)?;
    }
    Ok(total)
}

/// What an item is compared by: itself or its attribute, a text without its case.
fn sort_key(item: &Value, path: Option<&Value>, case_sensitive: bool) -> Res<Value> {
    let fold = |value: Value| match value.as_str() {
        Some(text) if !case_sensitive => Value::text(text.to_lowercase()),
        _ => value,
    };
    match path {
        None | Some(Value::None) => Ok(fold(item.clone())),
        Some(path) => Ok(fold(follow(item, path)?)),
    }
}

fn sorted(keyed: Vec<(Value, Value)>, reverse: bool) -> Res<Vec<Value>> {
    budget::items(keyed.len())?;
    let wanted = if reverse { Ordering::Greater } else { Ordering::Less };
    let before = &mut |(a, _): &(Value, Value), (b, _): &(Value, Value)| {
        budget::step()?;
        Ok(ops::order("<", a, b)? == Some(wanted))
    };
    Ok(ops::sort(keyed, before)?.into_iter().map(|(_, item)| item).collect())
}

fn sort(value: &Value, args: Bound) -> Res<Value> {
    let case_sensitive = args.truth(1, false);
    // "a,b" sorts by a, then by b.
    let paths = match args.get(2) {
        None | Some(Value::None) => Vec::new(),
        Some(path) => match path.as_str() {
            Some(text) => text.split(',').map(Value::text).collect(),
            None => vec![path.clone()],
        },
    };
    let mut keyed = Vec::new();
    for item in value.items()? {
        let key = match paths.is_empty() {
            true => sort_key(&item, None, case_sensitive)?,
            false => Value::list(
                paths
                    .iter()
                    .map(|p| sort_key(&item, Some(p), case_sensitive))
                    .collect::<Res<_>>()?,
            )?,
        };
        keyed.push((key, item));
    }
    Value::list(sorted(keyed, args.truth(0, false))?)
}

fn dict_sort(value: &Value, args: Bound) -> Res<Value> {
    let Value::Dict(dict) = value.defined()? else {
        return fault(format!("'{} object' has no attribute 'items'", value.type_name()));
    };
    let by_key = match args.maybe_text(1)?.unwrap_or("key") {
        "key" => true,
        "value" => false,
        _ => return fault("You can only sort by either \"key\" or \"value\""),
    };
    let mut keyed = Vec::new();
    for (key, value) in dict.iter() {
        let by = sort_key(if by_key { key } else { value }, None, args.truth(0, false))?;
        keyed.push((by, Value::tuple(vec![key.clone(), value.clone()])?));
    }
    Value::list(sorted(keyed, args.truth(2, false))?)
}

fn extreme(value: &Value, args: Bound, wanted: Ordering) -> Res<Value> {
    let mut best: Option<(Value, Value)> = None;
    for item in value.items()? {
        budget::step()?;
        let key = sort_key(&item, args.get(1), args.truth(0, false))?;
        let better = match &best {
            Some((best, _)) => ops::order(if wanted.is_lt() { "<" } else { ">" }, &key, best)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(match best {
        Some((_, item)) => item,
        None => Value::undefined("No aggregated item, sequence was empty."),
    })
}

fn unique(value: &Value, args: Bound) -> Res<Value> {
    let mut seen = super::Dict::default();
    let mut out = Vec::new();
    for item in value.items()? {
        budget::step()?;
        let key = sort_key(&item, args.get(1), args.truth(0, false))?;
        if seen.get(&key)?.is_none() {
            seen.insert(key, Value::None)?;
            out.push(item);
        }
    }
    Value::iterator("do_unique", out)
}

fn group(value: &Value, args: Bound) -> Res<Value> {
    let path = args.need(0)?;
    let real = |item: &Value| -> Res<Value> {
        let found = follow(item, path)?;
        Ok(match (found.is_undefined(), args.get(1)) {
            (true, Some(default)) if !matches!(default, Value::None) => default.clone(),
            _ => found,
        })
    };
    let case_sensitive = args.truth(2, false);
    let mut keyed = Vec::new();
    for item in value.items()? {
        keyed.push((sort_key(&real(&item)?, None, case_sensitive)?, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in sorted(keyed, false)? {
        let key = sort_key(&real(&item)?, None, case_sensitive)?;
        match groups.last_mut() {
            Some((last, items)) if ops::equal(last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = Vec::new();
    for (_, items) in groups {
        let key = real(&items[0])?;
        out.push(Value::object(Object::Group(key, Value::list(items)?)));
    }
    Value::list(out)
}
