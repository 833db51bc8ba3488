//! Expressions -> values.
use super::args::Args;
use super::ast::{Arguments, Const, Expr, ExprKind, Symbol};
use super::exec::Renderer;
use super::repr::to_str;
use super::scope::Scope;
use super::value::{Object, Value};
use super::{budget, fault, filters, globals, methods, ops, tests, Dict, Res};
use std::rc::Rc;

fn constant(value: &Const) -> Value {
    match value {
        Const::None => Value::None,
        Const::Bool(truth) => Value::Bool(*truth),
        Const::Int(number) => Value::Int(*number),
        Const::Float(number) => Value::Float(*number),
        Const::Str(text) => Value::Str(text.clone()),
    }
}

impl Renderer<'_> {
    pub fn eval(&self, expr: &Expr, scope: &Rc<Scope>) -> Res<Value> {
        let value = budget::step().and_then(|()| self.eval_kind(&expr.kind, scope));
        value.map_err(|f| f.at(expr.line))
    }

    fn eval_all(&self, exprs: &[Expr], scope: &Rc<Scope>) -> Res<Vec<Value>> {
        exprs.iter().map(|e| self.eval(e, scope)).collect()
    }

    fn variable(&self, symbol: Symbol, scope: &Scope) -> Res<Value> {
        if let Some(value) = scope.get(symbol) {
            return Ok(value);
        }
        let name = self.name(symbol);
        budget::bytes(name.len())?;
        Ok(Value::undefined(format!("'{name}' is undefined")))
    }

    fn eval_kind(&self, kind: &ExprKind, scope: &Rc<Scope>) -> Res<Value> {
        // What has no operands needs no look at the depth.
        match kind {
            ExprKind::Const(value) => return Ok(constant(value)),
            ExprKind::Name(symbol) => return self.variable(*symbol, scope),
            _ => {}
        }
        let _level = budget::level()?;
        match kind {
            ExprKind::List(items) => Value::list(self.eval_all(items, scope)?),
            ExprKind::Tuple(items) => Value::tuple(self.eval_all(items, scope)?),
            ExprKind::Dict(members) => {
                let mut dict = Dict::default();
                for (key, value) in members {
                    dict.insert(self.eval(key, scope)?, self.eval(value, scope)?)?;
                }
                Ok(Value::Dict(Rc::new(dict)))
            }
            ExprKind::Not(of) => Ok(Value::Bool(!self.eval(of, scope)?.is_true())),
            ExprKind::Neg(of) => ops::unary(true, &self.eval(of, scope)?),
            ExprKind::Pos(of) => ops::unary(false, &self.eval(of, scope)?),
            ExprKind::And(a, b) => {
                let a = self.eval(a, scope)?;
                if a.is_true() {
                    self.eval(b, scope)
                } else {
                    Ok(a)
                }
            }
            ExprKind::Or(a, b) => {
                let a = self.eval(a, scope)?;
                if a.is_true() {
                    Ok(a)
                } else {
                    self.eval(b, scope)
                }
            }
            ExprKind::Binary(op, a, b) => ops::binary(*op, &self.eval(a, scope)?, &self.eval(b, scope)?),
            ExprKind::Concat(parts) => {
                let mut out = String::new();
                for part in parts {
                    out.push_str(&to_str(&self.eval(part, scope)?)?);
                    budget::output(out.len())?;
                }
                budget::text(out.len())?;
                Ok(Value::text(out))
            }
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first, scope)?;
                for (op, right) in rest {
                    let right = self.eval(right, scope)?;
                    if !ops::compare(*op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            ExprKind::If(test, then, otherwise) => match (self.eval(test, scope)?.is_true(), otherwise) {
                (true, _) => self.eval(then, scope),
                (false, Some(otherwise)) => self.eval(otherwise, scope),
                (false, None) => Ok(Value::undefined(
                    "the inline if-expression evaluated to false and no else section was defined.",
                )),
            },
            ExprKind::Attribute(of, name) => methods::attribute(&self.eval(of, scope)?, name),
            ExprKind::Item(of, key) => methods::subscript(&self.eval(of, scope)?, &self.eval(key, scope)?),
            ExprKind::Slice(of, bounds) => {
                let of = self.eval(of, scope)?;
                let mut parts = [None, None, None];
                for (part, bound) in parts.iter_mut().zip(bounds) {
                    if let Some(bound) = bound {
                        *part = Some(self.eval(bound, scope)?);
                    }
                }
                ops::slice(&of, &parts)
            }
            ExprKind::Call(function, arguments) => {
                let function = self.eval(function, scope)?;
                self.call(&function, self.arguments(arguments, scope)?)
            }
            ExprKind::Filter(of, name, arguments) => {
                let of = match of {
                    Some(of) => self.eval(of, scope)?,
                    None => Value::text(""),
                };
                filters::apply(name, &of, self.arguments(arguments, scope)?)
            }
            ExprKind::Test(of, name, arguments) => {
                let of = self.eval(of, scope)?;
                Ok(Value::Bool(tests::apply(name, &of, self.arguments(arguments, scope)?)?))
            }
            ExprKind::Const(_) | ExprKind::Name(_) => unreachable!("answered above"),
        }
    }

    pub fn arguments(&self, arguments: &Arguments, scope: &Rc<Scope>) -> Res<Args> {
        let mut out = Args {
            positional: self.eval_all(&arguments.positional, scope)?,
            named: Vec::with_capacity(arguments.named.len()),
        };
        for (name, value) in &arguments.named {
            out.named.push((name.clone(), self.eval(value, scope)?));
        }
        if let Some(more) = &arguments.spread {
            out.positional.extend(self.eval(more, scope)?.items()?);
        }
        if let Some(more) = &arguments.spread_named {
            match self.eval(more, scope)? {
                Value::Dict(dict) => {
                    budget::items(dict.len())?;
                    for (key, value) in dict.iter() {
                        let Value::Str(name) = key else {
                            return fault("keywords must be strings");
                        };
                        out.named.push((name.clone(), value.clone()));
                    }
                }
                other => {
                    return fault(format!(
                        "argument after ** must be a mapping, not {}",
                        other.type_name()
                    ))
                }
            }
        }
        Ok(out)
    }

    pub fn call(&self, function: &Value, args: Args) -> Res<Value> {
        if let Value::Object(object) = function.defined()? {
            match &**object {
                Object::Macro(of) => return self.call_macro(of, args),
                Object::Function(name) => return globals::call(name, args),
                Object::Method(of, name) => return methods::call(of, name, args),
                Object::Joiner(separator, used) => {
                    args.bind("joiner", &[])?;
                    return Ok(Value::text(if used.replace(true) { &**separator } else { "" }));
                }
                Object::Loop(state) => {
                    let args = args.bind("loop", &["iterable"])?;
                    return self.recurse(state, args.need(0)?);
                }
                _ => {}
            }
        }
        fault(format!("'{}' object is not callable", function.type_name()))
    }

    /// The filters of a block, applied to its text.
    pub fn filter_block(&self, filter: &Expr, text: Value, scope: &Rc<Scope>) -> Res<Value> {
        let ExprKind::Filter(of, name, arguments) = &filter.kind else {
            return fault("expected a filter");
        };
        let of = match of {
            Some(inner) => self.filter_block(inner, text, scope)?,
            None => text,
        };
        let args = self.arguments(arguments, scope)?;
        filters::apply(name, &of, args).map_err(|f| f.at(filter.line))
    }
}
