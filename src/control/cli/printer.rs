//! Prints answers in the form that was asked for: a table or lines for people, JSON for scripts.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, Failure};

/// Where answers go, and in which form.
pub struct Printer<'o> {
    pub out: io::StdoutLock<'o>,
    pub json: bool,
}

impl Printer<'_> {
    /// Prints an answer that is one thing.
    pub fn one<T: DeserializeOwned>(
        &mut self,
        client: &mut Client,
        method: &str,
        params: &Value,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let value = client.call(method, params)?;
            writeln!(self.out, "{value}")?;
        } else {
            let answer: T = client.ask(method, params)?;
            self.out.write_all(text(&answer).as_bytes())?;
        }
        Ok(())
    }

    /// Prints an answer that is a list.
    pub fn list<T: DeserializeOwned>(
        &mut self,
        client: &mut Client,
        method: &str,
        text: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let rows: Vec<Value> = client.ask(method, &json!({}))?;
            let mut listing = Listing::start(self)?;
            listing.rows(&rows)?;
            return listing.end();
        }
        let rows: Vec<T> = client.ask(method, &json!({}))?;
        self.out.write_all(text(&rows).as_bytes())?;
        Ok(())
    }
}

/// A JSON array that is written while it comes in: one element per line.
pub struct Listing<'p, 'o> {
    out: &'p mut io::StdoutLock<'o>,
    pub json: bool,
    is_empty: bool,
}

impl<'p, 'o> Listing<'p, 'o> {
    /// Opens the listing.
    pub fn start(printer: &'p mut Printer<'o>) -> io::Result<Listing<'p, 'o>> {
        if printer.json {
            printer.out.write_all(b"[")?;
        }
        Ok(Listing {
            out: &mut printer.out,
            json: printer.json,
            is_empty: true,
        })
    }

    /// Adds elements.
    pub fn rows(&mut self, rows: &[impl Serialize]) -> io::Result<()> {
        for row in rows {
            let comma = if std::mem::take(&mut self.is_empty) {
                ""
            } else {
                ","
            };
            let row = serde_json::to_string(row).map_err(io::Error::other)?;
            write!(self.out, "{comma}\n{row}")?;
        }
        self.out.flush()
    }

    /// Adds text for people.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Closes the listing.
    pub fn end(self) -> Result<(), Failure> {
        if self.json {
            self.out.write_all(b"\n]\n")?;
        }
        Ok(self.out.flush()?)
    }
}
