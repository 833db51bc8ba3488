//! Python's values, as far as a template meets them.
use super::ast;
use super::dict::Dict;
use super::scope::Scope;
use super::{budget, fault, Res};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Nesting beyond this is refused: writing, comparing and dropping recurse.
pub const MAX_DEPTH: usize = 100;

#[derive(Clone)]
pub enum Value {
    Undefined(Rc<str>), // what an error about it says
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    Markup(Arc<str>), // a text that is HTML already: `safe`, `escape`
    Bytes(Rc<[u8]>),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Dict>),
    Range(Range),
    Object(Rc<Object>),
}

pub struct Seq {
    pub items: Vec<Value>,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub struct Range {
    pub start: i64,
    pub stop: i64,
    pub step: i64,
    pub length: i64,
}

impl Range {
    pub fn get(&self, index: i64) -> Value {
        Value::Int(i128::from(self.start) + i128::from(self.step) * i128::from(index))
    }
}

/// keys(), values() and items() of a dict.
#[derive(Clone, Copy, PartialEq)]
pub enum View {
    Keys,
    Values,
    Items,
}

pub enum Object {
    Namespace(RefCell<Dict>, Cell<usize>), // and its depth
    Macro(MacroValue),
    Function(&'static str),  // of globals.rs
    Method(Value, Arc<str>), // bound to a value
    Loop(Rc<LoopState>),
    Cycler(Vec<Value>, Cell<usize>, usize), // what is next, and its depth
    Joiner(Arc<str>, Cell<bool>),
    Iterator(&'static str, RefCell<VecDeque<Value>>, usize), // what a lazy filter gives: read once; and its depth
    View(Rc<Dict>, View),
    Group(Value, Value), // of groupby: grouper, list
}

pub struct MacroValue {
    pub code: Arc<ast::Macro>,
    pub scope: Rc<Scope>,
}

pub struct LoopState {
    pub items: Vec<Value>,
    pub index: Cell<usize>,
    pub depth: usize,
    /// Of the items within each other.
    pub nesting: usize,
    pub last_changed: RefCell<Option<Vec<Value>>>,
    /// Set where the loop is `recursive`: its code and the scope it stands in.
    pub recursive: Option<(Arc<ast::For>, Rc<Scope>)>,
}

pub fn deepest<'a>(items: impl Iterator<Item = &'a Value>) -> Res<usize> {
    let depth = 1 + items.map(Value::depth).max().unwrap_or(0);
    if depth > MAX_DEPTH {
        return fault(format!("a value is nested deeper than {MAX_DEPTH}"));
    }
    Ok(depth)
}

impl Seq {
    pub fn new(items: Vec<Value>) -> Res<Rc<Seq>> {
        budget::items(items.len())?;
        let depth = deepest(items.iter())?;
        Ok(Rc::new(Seq { items, depth }))
    }
}

impl Value {
    pub fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Str(text.into())
    }

    pub fn list(items: Vec<Value>) -> Res<Value> {
        Ok(Value::List(Seq::new(items)?))
    }

    pub fn tuple(items: Vec<Value>) -> Res<Value> {
        Ok(Value::Tuple(Seq::new(items)?))
    }

    pub fn object(object: Object) -> Value {
        Value::Object(Rc::new(object))
    }

    pub fn iterator(name: &'static str, items: Vec<Value>) -> Res<Value> {
        budget::items(items.len())?;
        let depth = deepest(items.iter())?;
        Ok(Value::object(Object::Iterator(name, RefCell::new(items.into()), depth)))
    }

    pub fn undefined(message: impl Into<Rc<str>>) -> Value {
        Value::Undefined(message.into())
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(seq) | Value::Tuple(seq) => seq.depth,
            Value::Dict(dict) => dict.depth(),
            Value::Object(object) => match &**object {
                Object::Namespace(_, depth) => depth.get(),
                Object::Iterator(_, _, depth) | Object::Cycler(_, _, depth) => *depth,
                Object::Loop(state) => state.nesting,
                Object::Group(key, list) => 1 + key.depth().max(list.depth()),
                Object::View(dict, _) => dict.depth(),
                Object::Method(of, _) => 1 + of.depth(),
                _ => 1,
            },
            _ => 0,
        }
    }

    /// Python's name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Markup(_) => "Markup",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Range(_) => "range",
            Value::Object(object) => match &**object {
                Object::Namespace(..) => "Namespace",
                Object::Macro(_) => "Macro",
                Object::Function(_) => "function",
                Object::Method(..) => "builtin_function_or_method",
                Object::Loop(_) => "LoopContext",
                Object::Cycler(..) => "Cycler",
                Object::Joiner(..) => "Joiner",
                Object::Iterator(..) => "generator",
                Object::View(_, View::Keys) => "dict_keys",
                Object::View(_, View::Values) => "dict_values",
                Object::View(_, View::Items) => "dict_items",
                Object::Group(..) => "_GroupTuple",
            },
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(truth) => *truth,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Str(text) | Value::Markup(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(seq) | Value::Tuple(seq) => !seq.items.is_empty(),
            Value::Dict(dict) => dict.len() > 0,
            Value::Range(range) => range.length > 0,
            Value::Object(object) => match &**object {
                Object::View(dict, _) => dict.len() > 0,
                Object::Loop(state) => !state.items.is_empty(),
                _ => true,
            },
        }
    }

    /// The error that using an undefined value is.
    pub fn defined(&self) -> Res<&Value> {
        match self {
            Value::Undefined(message) => fault(message.to_string()),
            other => Ok(other),
        }
    }

    /// An integer, as Python takes one for an index or a count.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(truth) => Some(i128::from(*truth)),
            _ => None,
        }
    }

    /// The number of its items, where it has one.
    pub fn length(&self) -> Res<Option<usize>> {
        Ok(Some(match self {
            Value::Undefined(_) => 0,
            Value::Str(text) | Value::Markup(text) => {
                budget::bytes(text.len())?;
                text.chars().count()
            }
            Value::Bytes(bytes) => bytes.len(),
            Value::List(seq) | Value::Tuple(seq) => seq.items.len(),
            Value::Dict(dict) => dict.len(),
            Value::Range(range) => range.length as usize,
            Value::Object(object) => match &**object {
                Object::View(dict, _) => dict.len(),
                Object::Loop(state) => state.items.len(),
                Object::Group(..) => 2,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    /// Its items, one by one. An iterator gives them once.
    pub fn items(&self) -> Res<Vec<Value>> {
        match self {
            Value::Undefined(_) => return Ok(Vec::new()),
            Value::Str(text) | Value::Markup(text) => {
                budget::items(text.len())?;
                return Ok(text
                    .chars()
                    .map(|c| Value::text(c.encode_utf8(&mut [0; 4]) as &str))
                    .collect());
            }
            Value::Bytes(bytes) => {
                budget::items(bytes.len())?;
                return Ok(bytes.iter().map(|b| Value::Int(i128::from(*b))).collect());
            }
            Value::List(seq) | Value::Tuple(seq) => {
                budget::items(seq.items.len())?;
                return Ok(seq.items.clone());
            }
            Value::Dict(dict) => {
                budget::items(dict.len())?;
                return Ok(dict.keys().cloned().collect());
            }
            Value::Range(range) => {
                budget::items(range.length as usize)?;
                return Ok((0..range.length).map(|i| range.get(i)).collect());
            }
            Value::Object(object) => match &**object {
                Object::Iterator(_, items, _) => return Ok(items.take().into()),
                Object::Group(key, list) => return Ok(vec![key.clone(), list.clone()]),
                Object::View(dict, View::Keys) => return Value::Dict(dict.clone()).items(),
                Object::View(dict, View::Values) => {
                    budget::items(dict.len())?;
                    return Ok(dict.values().cloned().collect());
                }
                Object::View(dict, View::Items) => {
                    return dict
                        .iter()
                        .map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()]))
                        .collect();
                }
                _ => {}
            },
            _ => {}
        }
        fault(format!("'{}' object is not iterable", self.type_name()))
    }

    pub fn is_iterable(&self) -> bool {
        match self {
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
            Value::Object(object) => {
                matches!(
                    &**object,
                    Object::Iterator(..) | Object::View(..) | Object::Group(..) | Object::Loop(_)
                )
            }
            _ => true,
        }
    }
}
