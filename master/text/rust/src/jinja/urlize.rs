//! The urlize filter: links in a text become HTML.
use super::args::{count, Bound};
use super::html::escape;
use super::strings::is_space;
use super::{budget, fault, Res};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static HTTP: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?xi)^(
        (https?://|www\.)(([\w%-]+\.)+)?([a-z]{2,63}|xn--[\w%]{2,59})
        |([\w%-]{2,63}\.)+(com|net|int|edu|gov|org|info|mil)
        |(https?://)((\d{1,3})(\.\d{1,3}){3}|(\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}\]))
        )(?::\d{1,5})?(?:[/?\#]\S*)?$";
    Regex::new(pattern).expect("a literal")
});
static EMAIL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\S+@\w[\w.-]*\.\w+$").expect("a literal"));
static HEAD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(?:[(<]|&lt;)+").expect("a literal"));
static TAIL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:[)>.,\n]|&gt;)+$").expect("a literal"));

struct Links {
    limit: Option<usize>,
    attributes: String,
    schemes: Vec<String>,
}

pub fn urlize(text: &str, args: Bound) -> Res<String> {
    let mut rel: BTreeSet<&str> = args.maybe_text(3)?.unwrap_or("").split_whitespace().collect();
    if args.truth(1, false) {
        rel.insert("nofollow");
    }
    rel.insert("noopener");
    let rel: Vec<&str> = rel.into_iter().collect();
    let mut attributes = format!(" rel=\"{}\"", escape(&rel.join(" ")));
    if let Some(target) = args.maybe_text(2)?.filter(|t| !t.is_empty()) {
        attributes += &format!(" target=\"{}\"", escape(target));
    }
    let mut schemes = Vec::new();
    if let Some(given) = args.get(4) {
        for scheme in given.items()? {
            let scheme = scheme.as_str().unwrap_or_default();
            let name = scheme
                .strip_suffix("//")
                .or(scheme.strip_suffix('/'))
                .unwrap_or(scheme)
                .strip_suffix(':');
            let letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
            if !name.is_some_and(|n| n.chars().count() >= 2 && n.chars().all(letter)) {
                return fault(format!("'{scheme}' is not a valid URI scheme prefix."));
            }
            schemes.push(scheme.to_string());
        }
    }
    let links = Links {
        limit: args.maybe_int(0)?.map(count),
        attributes,
        schemes,
    };
    budget::text(text.len().saturating_mul(6))?;
    let html = escape(text);
    let mut out = String::new();
    let mut rest = &html[..];
    while !rest.is_empty() {
        let space = rest.len() - rest.trim_start_matches(is_space).len();
        out.push_str(&rest[..space]);
        rest = &rest[space..];
        let end = rest.find(is_space).unwrap_or(rest.len());
        out.push_str(&links.word(&rest[..end]));
        budget::output(out.len())?;
        rest = &rest[end..];
    }
    budget::text(out.len())?;
    Ok(out)
}

impl Links {
    fn word(&self, word: &str) -> String {
        let head = HEAD.find(word).map_or("", |m| m.as_str());
        let mut middle = word[head.len()..].to_string();
        let mut tail = TAIL.find(&middle).map_or("", |m| m.as_str()).to_string();
        middle.truncate(middle.len() - tail.len());
        for (open, close) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
            let opened = middle.matches(open).count();
            if opened <= middle.matches(close).count() {
                continue;
            }
            let closes = tail.match_indices(close).take(opened);
            let end = closes.last().map_or(0, |(at, _)| at + close.len());
            middle.extend(tail.drain(..end));
        }
        format!("{head}{}{tail}", self.link(&middle))
    }

    fn link(&self, middle: &str) -> String {
        let attributes = &self.attributes;
        if HTTP.is_match(middle) {
            let shown = match self.limit {
                Some(limit) if middle.chars().count() > limit => middle.chars().take(limit).collect::<String>() + "...",
                _ => middle.to_string(),
            };
            let whole = middle.starts_with("https://") || middle.starts_with("http://");
            let scheme = if whole { "" } else { "https://" };
            return format!("<a href=\"{scheme}{middle}\"{attributes}>{shown}</a>");
        }
        if let Some(address) = middle.strip_prefix("mailto:").filter(|a| EMAIL.is_match(a)) {
            return format!("<a href=\"{middle}\">{address}</a>");
        }
        let may_be_email = !middle.starts_with("www.") && !middle.starts_with('@') && !middle.contains(':');
        if may_be_email && EMAIL.is_match(middle) {
            return format!("<a href=\"mailto:{middle}\">{middle}</a>");
        }
        for scheme in &self.schemes {
            if middle != scheme && middle.starts_with(&scheme[..]) {
                return format!("<a href=\"{middle}\"{attributes}>{middle}</a>");
            }
        }
        middle.to_string()
    }
}
