//! Statements -> text.
use super::args::Args;
use super::ast::{For, Macro, Stmt, Symbol, Target};
use super::parser::Parsed;
use super::repr::to_str;
use super::scope::{self, Scope};
use super::value::{deepest, LoopState, MacroValue, Object, Value, MAX_DEPTH};
use super::{budget, fault, globals, Dict, Res};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

pub struct Renderer<'a> {
    parsed: &'a Parsed,
}

#[derive(PartialEq)]
pub enum Flow {
    On,
    Break,
    Continue,
}

pub fn render(parsed: &Parsed, context: &Dict) -> Res<String> {
    let root = Scope::new(None);
    for (symbol, name) in parsed.names.iter().enumerate() {
        let global = || {
            globals::NAMES
                .iter()
                .find(|n| ***n == **name)
                .map(|n| Value::object(Object::Function(n)))
        };
        if let Some(value) = context.text(name).cloned().or_else(global) {
            root.set(symbol as Symbol, value);
        }
    }
    let mut out = String::new();
    let result = Renderer { parsed }.body(&parsed.body, &root, &mut out);
    scope::clear();
    result.map(|_| out)
}

fn write(out: &mut String, text: &str) -> Res<()> {
    budget::output(out.len() + text.len())?;
    out.push_str(text);
    Ok(())
}

impl Renderer<'_> {
    pub fn name(&self, symbol: Symbol) -> &str {
        &self.parsed.names[symbol as usize]
    }

    pub fn body(&self, body: &[Stmt], scope: &Rc<Scope>, out: &mut String) -> Res<Flow> {
        let _level = budget::level()?;
        for statement in body {
            budget::step()?;
            let flow = self.statement(statement, scope, out)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// A body's text, in a scope of its own.
    fn text(&self, body: &[Stmt], scope: &Rc<Scope>) -> Res<Value> {
        let mut out = String::new();
        self.body(body, &Scope::new(Some(scope)), &mut out)?;
        budget::text(out.len())?;
        Ok(Value::text(out))
    }

    fn statement(&self, statement: &Stmt, scope: &Rc<Scope>, out: &mut String) -> Res<Flow> {
        match statement {
            Stmt::Text(text) => write(out, text)?,
            Stmt::Print(expr) => {
                let value = self.eval(expr, scope)?;
                write(out, &to_str(&value)?).map_err(|f| f.at(expr.line))?;
            }
            Stmt::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.eval(test, scope)?.is_true() {
                        return self.body(body, scope, out);
                    }
                }
                return self.body(otherwise, scope, out);
            }
            Stmt::For(code) => {
                let items = self.eval(&code.iterable, scope)?;
                self.for_loop(code, &items, scope, 0, out)
                    .map_err(|f| f.at(code.iterable.line))?;
            }
            Stmt::Set(target, expr) => {
                let value = self.eval(expr, scope)?;
                self.assign(target, value, scope).map_err(|f| f.at(expr.line))?;
            }
            Stmt::SetBlock(target, filter, body) => {
                let mut value = self.text(body, scope)?;
                if let Some(filter) = filter {
                    value = self.filter_block(filter, value, scope)?;
                }
                self.assign(target, value, scope)?;
            }
            Stmt::With(values, body) => {
                let inner = Scope::new(Some(scope));
                for (target, expr) in values {
                    let value = self.eval(expr, scope)?;
                    self.assign(target, value, &inner)?;
                }
                return self.body(body, &inner, out);
            }
            Stmt::Macro(symbol, code) => scope.set(*symbol, self.macro_value(code, scope)?),
            Stmt::Call(call, code) => {
                let super::ast::ExprKind::Call(function, arguments) = &call.kind else {
                    return fault("expected a call");
                };
                let function = self.eval(function, scope)?;
                let mut args = self.arguments(arguments, scope)?;
                args.named.push(("caller".into(), self.macro_value(code, scope)?));
                let text = self.call(&function, args).map_err(|f| f.at(call.line))?;
                write(out, &to_str(&text)?)?;
            }
            Stmt::Filter(filter, body) => {
                let text = self.text(body, scope)?;
                write(out, &to_str(&self.filter_block(filter, text, scope)?)?)?;
            }
            Stmt::Scope(body) => return self.body(body, &Scope::new(Some(scope)), out),
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn assign(&self, target: &Target, value: Value, scope: &Rc<Scope>) -> Res<()> {
        match target {
            Target::Name(symbol) => scope.set(*symbol, value),
            Target::Attribute(symbol, name) => match scope.get(*symbol) {
                Some(Value::Object(object)) => match &*object {
                    Object::Namespace(members, depth) => {
                        members.borrow_mut().insert(Value::Str(name.clone()), value)?;
                        depth.set(members.borrow().depth());
                        if depth.get() > MAX_DEPTH {
                            return fault(format!("a value is nested deeper than {MAX_DEPTH}"));
                        }
                    }
                    _ => return fault("cannot assign attribute on non-namespace object"),
                },
                _ => return fault("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let values = value.defined()?.items()?;
                match values.len().cmp(&targets.len()) {
                    std::cmp::Ordering::Less => {
                        let (want, got) = (targets.len(), values.len());
                        return fault(format!("not enough values to unpack (expected {want}, got {got})"));
                    }
                    std::cmp::Ordering::Greater => {
                        return fault(format!("too many values to unpack (expected {})", targets.len()));
                    }
                    _ => {}
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value, scope)?;
                }
            }
        }
        Ok(())
    }

    // ---- loops

    fn for_loop(&self, code: &Arc<For>, items: &Value, scope: &Rc<Scope>, depth: usize, out: &mut String) -> Res<()> {
        let mut items = items.items()?;
        if let Some(test) = &code.test {
            let mut kept = Vec::new();
            for item in items {
                let inner = Scope::new(Some(scope));
                self.assign(&code.target, item.clone(), &inner)?;
                if self.eval(test, &inner)?.is_true() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            self.body(&code.otherwise, &Scope::new(Some(scope)), out)?;
            return Ok(());
        }
        let recursive = match code.recursive {
            true => Some((code.clone(), scope.hold()?)),
            false => None,
        };
        let state = Rc::new(LoopState {
            nesting: deepest(items.iter())?,
            items,
            index: Cell::new(0),
            depth,
            last_changed: RefCell::new(None),
            recursive,
        });
        let looped = Value::object(Object::Loop(state.clone()));
        let mut inner = Scope::new(Some(scope));
        for (index, item) in state.items.iter().enumerate() {
            budget::step()?;
            state.index.set(index);
            inner = inner.renew();
            inner.set(code.loop_name, looped.clone());
            self.assign(&code.target, item.clone(), &inner)?;
            if self.body(&code.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// loop(iterable): the loop's body for other items, one level down.
    pub fn recurse(&self, state: &LoopState, items: &Value) -> Res<Value> {
        let Some((code, scope)) = &state.recursive else {
            return fault("The loop must have the 'recursive' marker to be called recursively.");
        };
        let mut out = String::new();
        self.for_loop(code, items, scope, state.depth + 1, &mut out)?;
        budget::text(out.len())?;
        Ok(Value::text(out))
    }

    // ---- macros

    fn macro_value(&self, code: &Arc<Macro>, scope: &Rc<Scope>) -> Res<Value> {
        Ok(Value::object(Object::Macro(MacroValue {
            code: code.clone(),
            scope: scope.hold()?,
        })))
    }

    pub fn call_macro(&self, of: &MacroValue, args: Args) -> Res<Value> {
        let code = &of.code;
        let scope = Scope::new(Some(&of.scope));
        let mut named = args.named;
        let mut positional = args.positional.into_iter();
        for (symbol, name, default) in &code.parameters {
            budget::steps(named.len() / 8)?;
            let value = positional.next().or_else(|| {
                let place = named.iter().position(|(n, _)| n == name)?;
                Some(named.remove(place).1)
            });
            let value = match (value, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default, &scope)?,
                (None, None) => Value::undefined(format!("parameter '{name}' was not provided")),
            };
            scope.set(*symbol, value);
        }
        if let Some(symbol) = code.caller {
            let place = named.iter().position(|(n, _)| &**n == "caller");
            let caller = place.map(|at| named.remove(at).1);
            scope.set(symbol, caller.unwrap_or_else(|| Value::undefined("No caller defined")));
        }
        match (code.kwargs, named.first()) {
            (Some(symbol), _) => {
                let mut dict = Dict::default();
                for (name, value) in named {
                    dict.insert(Value::Str(name), value)?;
                }
                scope.set(symbol, Value::Dict(Rc::new(dict)));
            }
            (None, Some((name, _))) => {
                return fault(format!("macro '{}' takes no keyword argument '{name}'", code.name));
            }
            _ => {}
        }
        match (code.varargs, positional.len()) {
            (Some(symbol), _) => scope.set(symbol, Value::tuple(positional.collect())?),
            (None, 0) => {}
            _ => {
                let (name, most) = (&code.name, code.parameters.len());
                return fault(format!("macro '{name}' takes not more than {most} argument(s)"));
            }
        }
        let mut out = String::new();
        self.body(&code.body, &scope, &mut out)?;
        budget::text(out.len())?;
        Ok(Value::text(out))
    }
}
