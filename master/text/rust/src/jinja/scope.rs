//! Where a template's names get their values. Assignments go to the innermost scope, look-ups from there outwards.
use super::ast::Symbol;
use super::value::{Object, Value};
use std::cell::RefCell;
use std::rc::Rc;

pub struct Scope {
    values: RefCell<Vec<(Symbol, Value)>>,
    parent: Option<Rc<Scope>>,
}

thread_local! {
    // Scopes that a macro or a loop object holds on to, and namespaces. They may hold it in turn, so they are emptied
    // at the end.
    static HELD: RefCell<Vec<Rc<Scope>>> = const { RefCell::new(Vec::new()) };
    static NAMESPACES: RefCell<Vec<Rc<Object>>> = const { RefCell::new(Vec::new()) };
}

impl Scope {
    pub fn new(parent: Option<&Rc<Scope>>) -> Rc<Scope> {
        Rc::new(Scope {
            values: RefCell::new(Vec::new()),
            parent: parent.cloned(),
        })
    }

    pub fn get(&self, name: Symbol) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some((_, value)) = scope.values.borrow().iter().find(|(n, _)| *n == name) {
                return Some(value.clone());
            }
            scope = scope.parent.as_deref()?;
        }
    }

    pub fn set(&self, name: Symbol, value: Value) {
        let mut values = self.values.borrow_mut();
        let old = match values.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => std::mem::replace(&mut slot.1, value),
            None => {
                values.push((name, value));
                return;
            }
        };
        // What is dropped may look at scopes.
        drop(values);
        drop(old);
    }

    /// As new, for the next turn of a loop, unless somebody kept it.
    pub fn renew(self: Rc<Self>) -> Rc<Scope> {
        if Rc::strong_count(&self) == 1 {
            self.values.take();
            return self;
        }
        Scope::new(self.parent.as_ref())
    }

    pub fn hold(self: &Rc<Self>) -> Rc<Scope> {
        HELD.with_borrow_mut(|held| {
            if !held.last().is_some_and(|last| Rc::ptr_eq(last, self)) {
                held.push(self.clone());
            }
        });
        self.clone()
    }
}

pub fn hold_namespace(space: &Rc<Object>) {
    NAMESPACES.with_borrow_mut(|held| held.push(space.clone()));
}

/// Lets go of all that scopes and namespaces hold.
pub fn clear() {
    for space in NAMESPACES.take() {
        if let Object::Namespace(members, _) = &*space {
            members.take();
        }
    }
    for scope in HELD.take() {
        scope.values.take();
    }
}
