//! The arguments of a call.
use super::value::Value;
use super::{fault, Res};
use std::sync::Arc;

#[derive(Default)]
pub struct Args {
    pub positional: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

/// Arguments by the places of their parameters.
pub struct Bound {
    function: &'static str,
    names: &'static [&'static str],
    values: Vec<Option<Value>>,
}

impl Args {
    pub fn bind(self, function: &'static str, names: &'static [&'static str]) -> Res<Bound> {
        if self.positional.len() > names.len() {
            let (most, got) = (names.len(), self.positional.len());
            return fault(format!("{function}() takes at most {most} arguments ({got} given)"));
        }
        let mut values: Vec<Option<Value>> = self.positional.into_iter().map(Some).collect();
        values.resize(names.len(), None);
        for (name, value) in self.named {
            match names.iter().position(|n| **n == *name) {
                Some(place) if values[place].is_none() => values[place] = Some(value),
                Some(_) => return fault(format!("{function}() got multiple values for argument '{name}'")),
                None => return fault(format!("{function}() got an unexpected keyword argument '{name}'")),
            }
        }
        Ok(Bound {
            function,
            names,
            values,
        })
    }
}

impl Bound {
    /// Nothing when it was not given.
    pub fn get(&self, place: usize) -> Option<&Value> {
        self.values[place].as_ref()
    }

    pub fn need(&self, place: usize) -> Res<&Value> {
        match self.get(place) {
            Some(value) => Ok(value),
            None => {
                let (function, name) = (self.function, self.names[place]);
                fault(format!("{function}() missing required argument: '{name}'"))
            }
        }
    }

    fn wrong<T>(&self, place: usize, want: &str, got: &Value) -> Res<T> {
        got.defined()?;
        let (function, name) = (self.function, self.names[place]);
        fault(format!(
            "{function}() argument '{name}' must be {want}, not {}",
            got.type_name()
        ))
    }

    /// Nothing when it was not given, or is none.
    pub fn maybe_int(&self, place: usize) -> Res<Option<i128>> {
        match self.get(place) {
            None | Some(Value::None) => Ok(None),
            Some(value) => match value.as_int() {
                Some(number) => Ok(Some(number)),
                None => self.wrong(place, "int", value),
            },
        }
    }

    pub fn int(&self, place: usize) -> Res<i128> {
        match self.maybe_int(place)? {
            Some(number) => Ok(number),
            None => self.wrong(place, "int", self.need(place)?),
        }
    }

    pub fn maybe_text(&self, place: usize) -> Res<Option<&str>> {
        match self.get(place) {
            None | Some(Value::None) => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => self.wrong(place, "str", value),
            },
        }
    }

    pub fn text(&self, place: usize) -> Res<&str> {
        match self.maybe_text(place)? {
            Some(text) => Ok(text),
            None => self.wrong(place, "str", self.need(place)?),
        }
    }

    pub fn truth(&self, place: usize, otherwise: bool) -> bool {
        self.get(place).map_or(otherwise, Value::is_true)
    }
}

/// A count that a text or list is made of: none below 0, and never more than memory has.
pub fn count(number: i128) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}
