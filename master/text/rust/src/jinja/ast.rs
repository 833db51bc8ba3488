//! What a template says. Names are numbered, so that scopes need not compare strings.
use std::sync::Arc;

pub type Symbol = u32;

#[derive(Debug, Clone)]
pub enum Const {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Debug, Default)]
pub struct Arguments {
    pub positional: Vec<Expr>,
    pub named: Vec<(Arc<str>, Expr)>,
    pub spread: Option<Box<Expr>>,
    pub spread_named: Option<Box<Expr>>,
}

#[derive(Debug)]
pub struct Expr {
    pub line: u32,
    pub kind: ExprKind,
}

#[derive(Debug)]
pub enum ExprKind {
    Const(Const),
    Name(Symbol),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    If(Box<Expr>, Box<Expr>, Option<Box<Expr>>), // test, then, else
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Arguments),
    Filter(Option<Box<Expr>>, String, Arguments), // no expression: of a block's text
    Test(Box<Expr>, String, Arguments),
}

#[derive(Debug)]
pub enum Target {
    Name(Symbol),
    Attribute(Symbol, Arc<str>), // of a namespace
    Tuple(Vec<Target>),
}

impl Target {
    pub fn names(&self, symbol: Symbol) -> bool {
        match self {
            Target::Name(name) => *name == symbol,
            Target::Attribute(..) => false,
            Target::Tuple(parts) => parts.iter().any(|p| p.names(symbol)),
        }
    }
}

#[derive(Debug)]
pub struct Macro {
    pub name: Arc<str>,
    pub parameters: Vec<(Symbol, Arc<str>, Option<Expr>)>,
    pub body: Vec<Stmt>,
    /// Whether the body names them.
    pub varargs: Option<Symbol>,
    pub kwargs: Option<Symbol>,
    pub caller: Option<Symbol>,
}

#[derive(Debug)]
pub struct For {
    pub target: Target,
    pub iterable: Expr,
    pub test: Option<Expr>,
    pub recursive: bool,
    pub body: Vec<Stmt>,
    pub otherwise: Vec<Stmt>,
    pub loop_name: Symbol,
}

#[derive(Debug)]
pub enum Stmt {
    Text(Arc<str>),
    Print(Expr),
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    For(Arc<For>),
    Set(Target, Expr),
    SetBlock(Target, Option<Expr>, Vec<Stmt>),
    With(Vec<(Target, Expr)>, Vec<Stmt>),
    Macro(Symbol, Arc<Macro>),
    Call(Expr, Arc<Macro>),
    Filter(Expr, Vec<Stmt>),
    Scope(Vec<Stmt>),
    Break,
    Continue,
}
