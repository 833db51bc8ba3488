//! Where a template's names get their values. Assignments go to the innermost scope, look-ups from there outwards.
use super::ast::Symbol;
use super::value::{LoopState, Object, Value};
use super::{budget, Res};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub struct Scope {
    values: RefCell<BTreeMap<Symbol, Value>>,
    parent: Option<Rc<Scope>>,
}

thread_local! {
    // Scopes that a macro or a loop object holds on to, namespaces, and loops that were asked what changed. They may
    // hold one another in turn, so they are emptied at the end.
    static HELD: RefCell<Vec<Rc<Scope>>> = const { RefCell::new(Vec::new()) };
    static NAMESPACES: RefCell<Vec<Rc<Object>>> = const { RefCell::new(Vec::new()) };
    static LOOPS: RefCell<Vec<Rc<LoopState>>> = const { RefCell::new(Vec::new()) };
}

impl Scope {
    pub fn new(parent: Option<&Rc<Scope>>) -> Rc<Scope> {
        Rc::new(Scope {
            values: RefCell::new(BTreeMap::new()),
            parent: parent.cloned(),
        })
    }

    pub fn get(&self, name: Symbol) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some(value) = scope.values.borrow().get(&name) {
                return Some(value.clone());
            }
            scope = scope.parent.as_deref()?;
        }
    }

    pub fn set(&self, name: Symbol, value: Value) {
        let old = self.values.borrow_mut().insert(name, value);
        drop(old); // with the scope free: what is dropped may look at it
    }

    /// As new, for the next turn of a loop, unless somebody kept it.
    pub fn renew(self: Rc<Self>) -> Rc<Scope> {
        if Rc::strong_count(&self) == 1 {
            self.values.take();
            return self;
        }
        Scope::new(self.parent.as_ref())
    }

    pub fn hold(self: &Rc<Self>) -> Res<Rc<Scope>> {
        budget::items(8)?;
        HELD.with_borrow_mut(|held| {
            if !held.last().is_some_and(|last| Rc::ptr_eq(last, self)) {
                held.push(self.clone());
            }
        });
        Ok(self.clone())
    }
}

pub fn hold_loop(state: &Rc<LoopState>) {
    LOOPS.with_borrow_mut(|held| held.push(state.clone()));
}

pub fn hold_namespace(space: &Rc<Object>) {
    NAMESPACES.with_borrow_mut(|held| held.push(space.clone()));
}

/// Lets go of all that scopes, namespaces and loops hold.
pub fn clear() {
    for space in NAMESPACES.take() {
        if let Object::Namespace(members, _) = &*space {
            members.take();
        }
    }
    for state in LOOPS.take() {
        state.last_changed.take();
    }
    for scope in HELD.take() {
        scope.values.take();
    }
}
