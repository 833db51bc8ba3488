//! Expressions, with Jinja2's precedence.
use super::ast::*;
use super::lexer::Token;
use super::parser::Parser;
use super::value::Value;
use super::{fault_at, methods, ops, Res};

fn boxed(line: u32, kind: ExprKind) -> Box<Expr> {
    Box::new(Expr { line, kind })
}

impl Parser {
    pub fn expression(&mut self) -> Res<Expr> {
        self.deeper(|p| p.conditional())
    }

    fn conditional(&mut self) -> Res<Expr> {
        let nesting = self.nesting;
        let line = self.line();
        let mut then = self.or()?;
        while self.skip_name("if") {
            self.longer()?;
            let soft = std::mem::replace(&mut self.soft, true);
            let test = self.or()?;
            let otherwise = if self.skip_name("else") {
                Some(Box::new(self.expression()?))
            } else {
                None
            };
            self.soft = soft;
            then = Expr {
                line,
                kind: ExprKind::If(Box::new(test), Box::new(then), otherwise),
            };
        }
        self.nesting = nesting;
        Ok(then)
    }

    fn or(&mut self) -> Res<Expr> {
        let nesting = self.nesting;
        let line = self.line();
        let mut left = self.and()?;
        while self.skip_name("or") {
            self.longer()?;
            let kind = ExprKind::Or(Box::new(left), Box::new(self.and()?));
            left = Expr { line, kind };
        }
        self.nesting = nesting;
        Ok(left)
    }

    fn and(&mut self) -> Res<Expr> {
        let nesting = self.nesting;
        let line = self.line();
        let mut left = self.not()?;
        while self.skip_name("and") {
            self.longer()?;
            let kind = ExprKind::And(Box::new(left), Box::new(self.not()?));
            left = Expr { line, kind };
        }
        self.nesting = nesting;
        Ok(left)
    }

    fn not(&mut self) -> Res<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let kind = ExprKind::Not(Box::new(self.deeper(|p| p.not())?));
            return Ok(Expr { line, kind });
        }
        self.compare()
    }

    fn compare(&mut self) -> Res<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Token::Op("==") => Compare::Eq,
                Token::Op("!=") => Compare::Ne,
                Token::Op("<") => Compare::Lt,
                Token::Op("<=") => Compare::Le,
                Token::Op(">") => Compare::Gt,
                Token::Op(">=") => Compare::Ge,
                Token::Name(name) if name == "in" => Compare::In,
                Token::Name(name) if name == "not" && *self.look() == Token::Name("in".into()) => {
                    self.next();
                    Compare::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((op, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let kind = ExprKind::Compare(Box::new(first), rest);
        Ok(Expr { line, kind })
    }

    fn binary(&mut self, ops: &[(&str, Binary)], operand: fn(&mut Self) -> Res<Expr>) -> Res<Expr> {
        let nesting = self.nesting;
        let line = self.line();
        let mut left = operand(self)?;
        while let Some((_, op)) = ops.iter().find(|(op, _)| self.is_op(op)) {
            self.next();
            self.longer()?;
            let right = operand(self)?;
            if let (ExprKind::Const(Const::Int(a)), ExprKind::Const(Const::Int(b))) = (&left.kind, &right.kind) {
                // What two numbers make is known now: too large an integer is refused before the first request.
                if b.is_positive() {
                    ops::binary(*op, &Value::Int(*a), &Value::Int(*b)).map_err(|f| f.at(line))?;
                }
            }
            let kind = ExprKind::Binary(*op, Box::new(left), Box::new(right));
            left = Expr { line, kind };
        }
        self.nesting = nesting;
        Ok(left)
    }

    fn sum(&mut self) -> Res<Expr> {
        self.binary(&[("+", Binary::Add), ("-", Binary::Sub)], Self::concat)
    }

    fn concat(&mut self) -> Res<Expr> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        let kind = ExprKind::Concat(parts);
        Ok(Expr { line, kind })
    }

    fn product(&mut self) -> Res<Expr> {
        let ops = [
            ("*", Binary::Mul),
            ("/", Binary::Div),
            ("//", Binary::FloorDiv),
            ("%", Binary::Mod),
        ];
        self.binary(&ops, Self::power)
    }

    fn power(&mut self) -> Res<Expr> {
        self.binary(&[("**", Binary::Pow)], |p| p.unary(true))
    }

    fn unary(&mut self, with_filter: bool) -> Res<Expr> {
        let nesting = self.nesting;
        let line = self.line();
        let sign = [("-", false), ("+", true)].into_iter().find(|(op, _)| self.is_op(op));
        let mut expr = match sign {
            Some((_, plus)) => {
                self.next();
                let operand = Box::new(self.deeper(|p| p.unary(false))?);
                let kind = if plus {
                    ExprKind::Pos(operand)
                } else {
                    ExprKind::Neg(operand)
                };
                Expr { line, kind }
            }
            None => self.primary()?,
        };
        loop {
            if self.is_op(".") || self.is_op("[") {
                expr = self.subscript(expr)?;
            } else if self.is_op("(") {
                expr = self.call(expr)?;
            } else {
                break;
            }
        }
        while with_filter {
            if self.skip_op("|") {
                let name = self.expect_name()?;
                expr = self.filter(Some(Box::new(expr)), name)?;
            } else if self.skip_name("is") {
                expr = self.test(expr)?;
            } else if self.is_op("(") {
                expr = self.call(expr)?;
            } else {
                break;
            }
        }
        self.nesting = nesting;
        Ok(expr)
    }

    fn primary(&mut self) -> Res<Expr> {
        let line = self.line();
        let kind = match self.peek().clone() {
            Token::Name(name) => {
                let kind = match name.as_str() {
                    "true" | "True" => ExprKind::Const(Const::Bool(true)),
                    "false" | "False" => ExprKind::Const(Const::Bool(false)),
                    "none" | "None" => ExprKind::Const(Const::None),
                    _ => ExprKind::Name(self.read(&name)),
                };
                self.next();
                kind
            }
            Token::Str(first) => {
                self.next();
                let mut text = String::from(&*first);
                while let Token::Str(more) = self.peek().clone() {
                    self.next();
                    text.push_str(&more);
                }
                ExprKind::Const(Const::Str(text.into()))
            }
            Token::Int(number) => {
                self.next();
                ExprKind::Const(Const::Int(number))
            }
            Token::Float(number) => {
                self.next();
                ExprKind::Const(Const::Float(number))
            }
            Token::Op("(") => {
                self.next();
                let inside = if self.is_op(")") {
                    *boxed(line, ExprKind::Tuple(Vec::new()))
                } else {
                    self.tuple(true, &[])?
                };
                self.expect_op(")")?;
                return Ok(inside);
            }
            Token::Op("[") => {
                self.next();
                ExprKind::List(self.items("]", Self::expression)?)
            }
            Token::Op("{") => {
                self.next();
                ExprKind::Dict(self.items("}", |p| {
                    let key = p.expression()?;
                    p.expect_op(":")?;
                    Ok((key, p.expression()?))
                })?)
            }
            other => return self.fail(format!("unexpected {}", other.describe())),
        };
        Ok(Expr { line, kind })
    }

    /// Items with commas between, up to `end`.
    fn items<T>(&mut self, end: &str, item: fn(&mut Self) -> Res<T>) -> Res<Vec<T>> {
        let mut out = Vec::new();
        while !self.is_op(end) {
            if !out.is_empty() {
                self.expect_op(",")?;
                if self.is_op(end) {
                    break;
                }
            }
            out.push(item(self)?);
        }
        self.expect_op(end)?;
        Ok(out)
    }

    /// An expression, or a tuple where commas follow. `ends`: names that end it.
    pub fn tuple(&mut self, conditional: bool, ends: &[&str]) -> Res<Expr> {
        let line = self.line();
        let mut parts = Vec::new();
        let mut comma = false;
        loop {
            let end = matches!(self.peek(), Token::VariableEnd | Token::BlockEnd | Token::Op(")"));
            if comma && (end || ends.iter().any(|e| self.is_name(e))) {
                break;
            }
            parts.push(if conditional {
                self.expression()?
            } else {
                self.deeper(|p| p.or())?
            });
            if !self.skip_op(",") {
                break;
            }
            comma = true;
        }
        match parts.pop() {
            Some(only) if !comma => Ok(only),
            last => {
                parts.extend(last);
                let kind = ExprKind::Tuple(parts);
                Ok(Expr { line, kind })
            }
        }
    }

    fn subscript(&mut self, of: Expr) -> Res<Expr> {
        self.longer()?;
        let line = self.line();
        if self.skip_op(".") {
            let kind = match self.next() {
                Token::Name(name) => ExprKind::Attribute(Box::new(of), name.as_str().into()),
                Token::Int(number) => ExprKind::Item(Box::new(of), boxed(line, ExprKind::Const(Const::Int(number)))),
                other => {
                    return fault_at(
                        line,
                        format!("unexpected {}, expected a name or number", other.describe()),
                    )
                }
            };
            return Ok(Expr { line, kind });
        }
        self.next();
        let mut bounds: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut part = 0;
        loop {
            if self.is_op("]") {
                break;
            }
            if self.skip_op(":") {
                part += 1;
                if part > 2 {
                    return self.fail("unexpected ':'");
                }
                continue;
            }
            if bounds[part].is_some() || self.is_op(",") {
                return self.fail(format!("unexpected {}, expected ']'", self.peek().describe()));
            }
            bounds[part] = Some(Box::new(self.expression()?));
        }
        self.next();
        let kind = match (part, bounds) {
            (0, [Some(item), _, _]) => ExprKind::Item(Box::new(of), item),
            (0, _) => return fault_at(line, "expected an expression between '[' and ']'".into()),
            (_, bounds) => ExprKind::Slice(Box::new(of), bounds),
        };
        Ok(Expr { line, kind })
    }

    fn arguments(&mut self) -> Res<Arguments> {
        let mut out = Arguments::default();
        self.expect_op("(")?;
        let mut first = true;
        while !self.is_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            first = false;
            if out.spread_named.is_some() {
                return self.fail("invalid syntax for function call expression");
            }
            if self.skip_op("**") {
                out.spread_named = Some(Box::new(self.expression()?));
            } else if self.is_op("*") && out.spread.is_none() {
                self.next();
                out.spread = Some(Box::new(self.expression()?));
            } else if let (Token::Name(name), Token::Op("=")) = (self.peek().clone(), self.look()) {
                self.next();
                self.next();
                out.named.push((name.as_str().into(), self.expression()?));
            } else if out.spread.is_none() && out.named.is_empty() {
                out.positional.push(self.expression()?);
            } else {
                return self.fail("invalid syntax for function call expression");
            }
        }
        self.expect_op(")")?;
        Ok(out)
    }

    fn call(&mut self, function: Expr) -> Res<Expr> {
        self.longer()?;
        let line = self.line();
        if let ExprKind::Attribute(_, name) = &function.kind {
            if methods::NOT_SERVED.contains(&name.as_ref()) {
                return fault_at(line, format!("the method '{name}' is not served"));
            }
        }
        let kind = ExprKind::Call(Box::new(function), self.arguments()?);
        Ok(Expr { line, kind })
    }

    /// `name` and its arguments, applied to an expression.
    pub fn filter(&mut self, of: Option<Box<Expr>>, name: String) -> Res<Expr> {
        self.longer()?;
        let line = self.line();
        let name = self.dotted(name)?;
        self.check_filter(&name)?;
        let arguments = if self.is_op("(") {
            self.arguments()?
        } else {
            Arguments::default()
        };
        let kind = ExprKind::Filter(of, name, arguments);
        Ok(Expr { line, kind })
    }

    fn dotted(&mut self, mut name: String) -> Res<String> {
        while self.skip_op(".") {
            name.push('.');
            name.push_str(&self.expect_name()?);
        }
        Ok(name)
    }

    fn test(&mut self, of: Expr) -> Res<Expr> {
        self.longer()?;
        let line = self.line();
        let negated = self.skip_name("not");
        let name = self.expect_name()?;
        let name = self.dotted(name)?;
        self.check_test(&name)?;
        let begins = match self.peek() {
            Token::Name(word) if word == "is" => return self.fail("You cannot chain multiple tests with is"),
            Token::Name(word) => !matches!(word.as_str(), "else" | "or" | "and"),
            Token::Str(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Op(op) => matches!(*op, "[" | "{"),
            _ => false,
        };
        let arguments = if self.is_op("(") {
            self.arguments()?
        } else if begins {
            let mut argument = self.primary()?;
            loop {
                if self.is_op(".") || self.is_op("[") {
                    argument = self.subscript(argument)?;
                } else if self.is_op("(") {
                    argument = self.call(argument)?;
                } else {
                    break;
                }
            }
            Arguments {
                positional: vec![argument],
                ..Default::default()
            }
        } else {
            Arguments::default()
        };
        let kind = ExprKind::Test(Box::new(of), name, arguments);
        let test = Expr { line, kind };
        if negated {
            let kind = ExprKind::Not(Box::new(test));
            return Ok(Expr { line, kind });
        }
        Ok(test)
    }
}
