//! The text libraries behind a C ABI; the contract is in pangea_text.h.
mod boundary;
mod guide;
mod jinja;
mod segment;
mod template;
mod tokenizer;
