//! A dict that keeps the order in which its keys came.
use super::ops;
use super::value::{deepest, Value};
use super::{budget, fault, Res};
use std::collections::HashMap;

/// From so many members on an index is kept; fewer are looked through.
const INDEXED: usize = 9;

/// Equal keys are equal here: 1, 1.0 and True are one key, as in Python.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Key {
    None,
    Undefined,
    Int(i128),
    Float(u64),
    Text(std::sync::Arc<str>),
    Bytes(std::rc::Rc<[u8]>),
    Tuple(Vec<Key>),
    Object(usize),
}

#[derive(Default, Clone)]
pub struct Dict {
    members: Vec<(Key, Value, Value)>,
    index: HashMap<Key, usize>,
    depth: usize,
}

impl Key {
    pub fn of(value: &Value) -> Res<Key> {
        Ok(match value {
            Value::None => Key::None,
            Value::Undefined(_) => Key::Undefined,
            Value::Bool(truth) => Key::Int(i128::from(*truth)),
            Value::Int(number) => Key::Int(*number),
            Value::Float(number) => match ops::whole(*number) {
                Some(whole) => Key::Int(whole),
                None => Key::Float(number.to_bits()),
            },
            Value::Str(text) | Value::Markup(text) => {
                budget::bytes(text.len())?;
                Key::Text(text.clone())
            }
            Value::Bytes(bytes) => Key::Bytes(bytes.clone()),
            Value::Tuple(seq) => {
                budget::items(seq.items.len() + 4)?;
                Key::Tuple(seq.items.iter().map(Key::of).collect::<Res<_>>()?)
            }
            Value::Range(_) | Value::List(_) | Value::Dict(_) => {
                return fault(format!("unhashable type: '{}'", value.type_name()))
            }
            Value::Object(object) => Key::Object(std::rc::Rc::as_ptr(object) as *const u8 as usize),
        })
    }
}

impl Dict {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn depth(&self) -> usize {
        self.depth.max(1)
    }

    fn find(&self, key: &Key) -> Option<usize> {
        if self.index.is_empty() {
            return self.members.iter().position(|(k, _, _)| k == key);
        }
        self.index.get(key).copied()
    }

    pub fn get(&self, key: &Value) -> Res<Option<&Value>> {
        if let Value::Float(number) = key {
            if number.is_nan() {
                return Ok(None);
            }
        }
        Ok(self.find(&Key::of(key)?).map(|i| &self.members[i].2))
    }

    pub fn text(&self, key: &str) -> Option<&Value> {
        if !self.index.is_empty() {
            return self.index.get(&Key::Text(key.into())).map(|i| &self.members[*i].2);
        }
        self.members
            .iter()
            .find(|(k, _, _)| matches!(k, Key::Text(t) if **t == *key))
            .map(|(_, _, v)| v)
    }

    pub fn copy(&self) -> Res<Dict> {
        budget::items(self.len().saturating_mul(4))?;
        Ok(self.clone())
    }

    /// A key that is there keeps its place.
    pub fn insert(&mut self, key: Value, value: Value) -> Res<()> {
        let depth = deepest([&key, &value].into_iter())?;
        let hashed = Key::of(&key)?;
        self.depth = self.depth.max(depth);
        if let Some(at) = self.find(&hashed) {
            self.members[at].2 = value;
            return Ok(());
        }
        budget::items(4)?;
        self.members.push((hashed, key, value));
        if self.members.len() >= INDEXED {
            let from = if self.index.is_empty() {
                0
            } else {
                self.members.len() - 1
            };
            for (at, (key, _, _)) in self.members.iter().enumerate().skip(from) {
                self.index.insert(key.clone(), at);
            }
        }
        Ok(())
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.members.iter().map(|(_, k, _)| k)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.members.iter().map(|(_, _, v)| v)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Value, &Value)> {
        self.members.iter().map(|(_, k, v)| (k, v))
    }
}
