//! Statements. Expressions are in expression.rs, the tokens in stream.rs.
use super::ast::*;
use super::lexer::{tokenize, Token};
use super::{fault_at, filters, tests, Res};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Names that Jinja2 gives and this engine does not.
const NOT_SERVED: [(&str, &str); 3] = [
    ("lipsum", "random text makes no prompt"),
    ("self", "blocks are written where they stand, and can not be called"),
    ("super", "there are no other templates"),
];

pub struct Parser {
    pub tokens: Vec<(Token, u32)>,
    pub at: usize,
    pub nesting: usize,
    symbols: HashMap<Arc<str>, Symbol>,
    pub names: Vec<Arc<str>>,
    /// How often each symbol was read so far.
    reads: Vec<usize>,
    not_served: Vec<(Symbol, u32, &'static str)>,
    assigned: HashSet<Symbol>,
    in_loop: bool,
    /// Under a condition Jinja2 looks filters and tests up when they are needed, elsewhere when it loads.
    pub soft: bool,
}

pub struct Parsed {
    pub body: Vec<Stmt>,
    pub names: Vec<Arc<str>>,
}

pub fn parse(source: &str) -> Res<Parsed> {
    let mut parser = Parser {
        tokens: tokenize(source)?,
        at: 0,
        nesting: 0,
        symbols: HashMap::new(),
        names: Vec::new(),
        reads: Vec::new(),
        not_served: Vec::new(),
        assigned: HashSet::new(),
        in_loop: false,
        soft: false,
    };
    let body = parser.body(&[])?;
    for (symbol, line, why) in &parser.not_served {
        if !parser.assigned.contains(symbol) {
            let name = &parser.names[*symbol as usize];
            return fault_at(*line, format!("'{name}' is not served: {why}"));
        }
    }
    Ok(Parsed {
        body,
        names: parser.names,
    })
}

impl Parser {
    // ---- names

    pub fn symbol(&mut self, name: &str) -> Symbol {
        if let Some(symbol) = self.symbols.get(name) {
            return *symbol;
        }
        let name: Arc<str> = name.into();
        let symbol = self.names.len() as Symbol;
        self.symbols.insert(name.clone(), symbol);
        self.names.push(name);
        self.reads.push(0);
        symbol
    }

    pub fn read(&mut self, name: &str) -> Symbol {
        let symbol = self.symbol(name);
        self.reads[symbol as usize] += 1;
        if let Some((_, why)) = NOT_SERVED.iter().find(|(n, _)| *n == name) {
            self.not_served.push((symbol, self.line(), why));
        }
        symbol
    }

    fn assign(&mut self, name: &str) -> Res<Symbol> {
        if matches!(name, "true" | "True" | "false" | "False" | "none" | "None") {
            return self.fail(format!("can't assign to '{name}'"));
        }
        let symbol = self.symbol(name);
        self.assigned.insert(symbol);
        Ok(symbol)
    }

    /// A name, a namespace's attribute where `attributes`, or several with commas between.
    fn target(&mut self, attributes: bool) -> Res<Target> {
        let mut parts = Vec::new();
        let mut tuple = false;
        loop {
            if self.is_op("(") {
                self.next();
                parts.push(self.deeper(|p| p.target(attributes))?);
                self.expect_op(")")?;
            } else {
                let name = self.expect_name()?;
                if attributes && self.skip_op(".") {
                    let symbol = self.read(&name);
                    parts.push(Target::Attribute(symbol, self.expect_name()?.into()));
                } else {
                    parts.push(Target::Name(self.assign(&name)?));
                }
            }
            if !self.skip_op(",") {
                break;
            }
            tuple = true;
            if self.is_op("=") || self.is_op(")") || self.is_name("in") || *self.peek() == Token::BlockEnd {
                break;
            }
        }
        Ok(match parts.pop() {
            Some(only) if !tuple => only,
            Some(last) => {
                parts.push(last);
                Target::Tuple(parts)
            }
            None => Target::Tuple(parts),
        })
    }

    // ---- statements

    /// Statements up to a tag that is one of `ends`, whose name is then the next token (the template's end when `ends`
    /// is empty).
    fn body(&mut self, ends: &[&str]) -> Res<Vec<Stmt>> {
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Data(text) => out.push(Stmt::Text(text)),
                Token::VariableBegin => {
                    out.push(Stmt::Print(self.tuple(true, &[])?));
                    self.expect(Token::VariableEnd)?;
                }
                Token::BlockBegin => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(out);
                    }
                    if let Some(statement) = self.deeper(|p| p.statement(ends))? {
                        out.push(statement);
                    }
                    self.expect(Token::BlockEnd)?;
                }
                Token::End if ends.is_empty() => return Ok(out),
                Token::End => {
                    return self.fail(format!("unexpected end of template, looking for {}", ends.join(" or ")))
                }
                other => return self.fail(format!("unexpected {}", other.describe())),
            }
        }
    }

    /// The rest of a tag's line, then statements up to one of `ends`.
    fn block(&mut self, ends: &[&str]) -> Res<Vec<Stmt>> {
        self.skip_op(":");
        self.expect(Token::BlockEnd)?;
        self.body(ends)
    }

    /// A body with its own scope, up to `end`, which is passed over.
    fn scope(&mut self, end: &str) -> Res<Vec<Stmt>> {
        let soft = std::mem::take(&mut self.soft);
        let out = self.block(&[end])?;
        self.soft = soft;
        self.next();
        Ok(out)
    }

    fn statement(&mut self, ends: &[&str]) -> Res<Option<Stmt>> {
        let tag = match self.peek().clone() {
            Token::Name(name) => name,
            other => return self.fail(format!("tag name expected, got {}", other.describe())),
        };
        let unknown = || match ends.is_empty() {
            true => format!("unknown tag '{tag}'"),
            false => format!("unknown tag '{tag}', looking for {}", ends.join(" or ")),
        };
        let line = self.line();
        self.next();
        Ok(Some(match tag.as_str() {
            "if" => self.if_statement()?,
            "for" => self.for_statement()?,
            "set" => self.set_statement()?,
            "print" => {
                let mut parts = vec![self.expression()?];
                while self.skip_op(",") {
                    parts.push(self.expression()?);
                }
                let kind = ExprKind::Concat(parts);
                Stmt::Print(Expr { line, kind })
            }
            "with" => self.with_statement()?,
            "macro" => {
                let name = self.expect_name()?;
                let symbol = self.assign(&name)?;
                Stmt::Macro(symbol, self.macro_body(name.into(), "endmacro")?)
            }
            "call" => {
                let line = self.line();
                let parameters = if self.is_op("(") { self.signature()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call.kind, ExprKind::Call(..)) {
                    return fault_at(line, "expected a call after 'call'".into());
                }
                Stmt::Call(call, self.macro_rest("caller".into(), parameters, "endcall")?)
            }
            "filter" => {
                let name = self.expect_name()?;
                let filter = self.filter(None, name)?;
                let filter = self.filters(filter)?;
                Stmt::Filter(filter, self.scope("endfilter")?)
            }
            "block" => {
                let name = self.expect_name()?;
                self.skip_name("scoped");
                self.skip_name("required");
                let body = self.scope("endblock")?;
                self.skip_name(&name);
                Stmt::Scope(body)
            }
            "generation" => Stmt::Scope(self.scope("endgeneration")?),
            "autoescape" => {
                let on = self.expression()?;
                if !matches!(on.kind, ExprKind::Const(Const::Bool(false))) {
                    return fault_at(line, "autoescape is not served: a prompt is not HTML".into());
                }
                Stmt::Scope(self.scope("endautoescape")?)
            }
            "break" | "continue" if !self.in_loop => return fault_at(line, format!("'{tag}' outside loop")),
            "break" => Stmt::Break,
            "continue" => Stmt::Continue,
            "include" | "import" | "from" | "extends" => {
                return fault_at(line, format!("'{tag}' is not served: there are no other templates"))
            }
            _ => return fault_at(line, unknown()),
        }))
    }

    fn if_statement(&mut self) -> Res<Stmt> {
        let soft = std::mem::replace(&mut self.soft, true);
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let test = self.tuple(false, &[])?;
            branches.push((test, self.block(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.block(&["endif"])?;
            }
            self.next();
            break;
        }
        self.soft = soft;
        Ok(Stmt::If(branches, otherwise))
    }

    fn for_statement(&mut self) -> Res<Stmt> {
        let target = self.target(false)?;
        let loop_name = self.symbol("loop");
        if target.names(loop_name) {
            return self.fail("can't assign to special loop variable in for-loop target");
        }
        if !self.skip_name("in") {
            return self.fail(format!("unexpected {}, expected 'in'", self.peek().describe()));
        }
        let iterable = self.tuple(false, &["recursive"])?;
        let test = if self.skip_name("if") {
            Some(self.expression()?)
        } else {
            None
        };
        let recursive = self.skip_name("recursive");
        let (soft, in_loop) = (
            std::mem::take(&mut self.soft),
            std::mem::replace(&mut self.in_loop, true),
        );
        let body = self.block(&["endfor", "else"])?;
        self.in_loop = in_loop;
        let otherwise = if self.skip_name("else") {
            self.block(&["endfor"])?
        } else {
            Vec::new()
        };
        self.soft = soft;
        self.next();
        Ok(Stmt::For(Arc::new(For {
            target,
            iterable,
            test,
            recursive,
            body,
            otherwise,
            loop_name,
        })))
    }

    fn set_statement(&mut self) -> Res<Stmt> {
        let target = self.target(true)?;
        if self.skip_op("=") {
            return Ok(Stmt::Set(target, self.tuple(true, &[])?));
        }
        let filter = if self.skip_op("|") {
            let name = self.expect_name()?;
            let first = self.filter(None, name)?;
            Some(self.filters(first)?)
        } else {
            None
        };
        Ok(Stmt::SetBlock(target, filter, self.scope("endset")?))
    }

    /// More filters after a first one.
    fn filters(&mut self, mut expr: Expr) -> Res<Expr> {
        while self.skip_op("|") {
            let name = self.expect_name()?;
            expr = self.filter(Some(Box::new(expr)), name)?;
        }
        Ok(expr)
    }

    fn with_statement(&mut self) -> Res<Stmt> {
        let mut values = Vec::new();
        while *self.peek() != Token::BlockEnd {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(false)?;
            self.expect_op("=")?;
            values.push((target, self.expression()?));
        }
        Ok(Stmt::With(values, self.scope("endwith")?))
    }

    fn signature(&mut self) -> Res<Vec<(Symbol, Arc<str>, Option<Expr>)>> {
        let mut out: Vec<(Symbol, Arc<str>, Option<Expr>)> = Vec::new();
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !out.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name()?;
            let symbol = self.assign(&name)?;
            let default = if self.skip_op("=") {
                Some(self.expression()?)
            } else {
                None
            };
            if name == "caller" && default.is_none() {
                return self.fail("the argument 'caller' must have a default");
            }
            if default.is_none() && out.last().is_some_and(|(_, _, d)| d.is_some()) {
                return self.fail("non-default argument follows default argument");
            }
            out.push((symbol, name.into(), default));
        }
        self.expect_op(")")?;
        Ok(out)
    }

    fn macro_body(&mut self, name: Arc<str>, end: &str) -> Res<Arc<Macro>> {
        let parameters = self.signature()?;
        self.macro_rest(name, parameters, end)
    }

    fn macro_rest(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Symbol, Arc<str>, Option<Expr>)>,
        end: &str,
    ) -> Res<Arc<Macro>> {
        let special = ["varargs", "kwargs", "caller"].map(|n| self.symbol(n));
        let before = special.map(|s| self.reads[s as usize]);
        let in_loop = std::mem::take(&mut self.in_loop);
        let body = self.scope(end)?;
        self.in_loop = in_loop;
        let used = |i: usize, parser: &Self| {
            let symbol = special[i];
            let read = parser.reads[symbol as usize] > before[i];
            (read && parameters.iter().all(|(s, _, _)| *s != symbol)).then_some(symbol)
        };
        let (varargs, kwargs, caller) = (used(0, self), used(1, self), used(2, self));
        Ok(Arc::new(Macro {
            name,
            parameters,
            body,
            varargs,
            kwargs,
            caller,
        }))
    }

    // ---- what expressions name

    pub fn check_filter(&self, name: &str) -> Res<()> {
        if self.soft || filters::exists(name) {
            return Ok(());
        }
        self.fail(format!("no filter named '{name}'"))
    }

    pub fn check_test(&self, name: &str) -> Res<()> {
        if self.soft || tests::exists(name) {
            return Ok(());
        }
        self.fail(format!("no test named '{name}'"))
    }
}
