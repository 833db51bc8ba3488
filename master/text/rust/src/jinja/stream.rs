//! The parser's look at its tokens.
use super::lexer::Token;
use super::parser::Parser;
use super::{fault_at, Res};

/// Nesting of statements and expressions.
const MAX_NESTING: usize = 300;

impl Parser {
    pub fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub fn look(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    pub fn line(&self) -> u32 {
        self.tokens[self.at].1
    }

    pub fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        fault_at(self.line(), message.into())
    }

    pub fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(o) if *o == op)
    }

    pub fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        if found {
            self.next();
        }
        found
    }

    pub fn expect_op(&mut self, op: &str) -> Res<()> {
        if self.skip_op(op) {
            return Ok(());
        }
        self.fail(format!("unexpected {}, expected '{op}'", self.peek().describe()))
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(n) if n == name)
    }

    pub fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    pub fn expect_name(&mut self) -> Res<String> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.next();
                Ok(name)
            }
            other => self.fail(format!("unexpected {}, expected a name", other.describe())),
        }
    }

    pub fn expect(&mut self, token: Token) -> Res<()> {
        if *self.peek() == token {
            self.next();
            return Ok(());
        }
        let got = self.peek().describe();
        self.fail(format!("unexpected {got}, expected {}", token.describe()))
    }

    pub fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        let nesting = self.nesting;
        self.longer()?;
        let out = inside(self);
        self.nesting = nesting;
        out
    }

    /// One more operator on what is parsed already: it lies one deeper.
    pub fn longer(&mut self) -> Res<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.fail(format!("nested deeper than {MAX_NESTING}"));
        }
        Ok(())
    }
}
