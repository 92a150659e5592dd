//! A value that no output may show: a password, and where it came from.
//!
//! It is written `{ file = "/path" }`, `{ env = "NAME" }`, or as the text itself, which is warned
//! about. Reading it looks at the host: the file is read and the environment is asked when the
//! configuration is loaded, so that a reload takes a secret that was changed.

use core::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use toml_edit::Value;

use super::fault::Sheet;
use super::section::{Entry, Section};

/// A secret text. It shows itself only to who asks by [`Secret::expose`]; `Debug`, `Display` and
/// JSON say where it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Box<str>,
    origin: Origin,
}

/// Where a secret came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stands in the configuration.
    Literal,
    File(PathBuf),
    Env(String),
}

impl Secret {
    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Reads a secret; a fault names the file or variable, and never what was in it.
    pub(super) fn read(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<Secret> {
        if let Some(Value::String(text)) = entry.value() {
            sheet.hide(entry.span());
            let secret = checked(entry, text.value(), Origin::Literal, sheet)?;
            let message = format!("`{}` stands in the configuration itself", entry.key);
            let hint = format!(
                "write {} = {{ file = \"/path\" }} or {{ env = \"NAME\" }}",
                entry.key
            );
            sheet.warn(entry.key_span.clone(), message, hint);
            return Some(secret);
        }
        if entry.item.table().is_none() {
            let message = format!("`{}` must be {WANTED}", entry.key);
            sheet.fault(entry.key_span.clone(), message);
            return None;
        }
        let section = Section::open(entry, entry.key.clone(), &["file", "env"], sheet)?;
        match (section.entry("file"), section.entry("env")) {
            (Some(file), None) => {
                let path = PathBuf::from(file.string(sheet, "a path")?);
                let text = read_file(&path)
                    .map_err(|why| {
                        let message = format!("`{}`: {} {why}", entry.key, path.display());
                        sheet.fault(file.key_span.clone(), message);
                    })
                    .ok()?;
                warn_if_open(entry, &path, sheet);
                checked(entry, &text, Origin::File(path), sheet)
            }
            (None, Some(env)) => {
                let name = env.string(sheet, "the name of an environment variable")?;
                let text = variable(name)
                    .map_err(|why| {
                        let message = format!("`{}`: {why}", entry.key);
                        sheet.fault(env.key_span.clone(), message);
                    })
                    .ok()?;
                checked(entry, &text, Origin::Env(name.to_owned()), sheet)
            }
            (None, None) | (Some(_), Some(_)) => {
                let message = format!("`{}` must be {WANTED}", entry.key);
                sheet.fault(entry.key_span.clone(), message);
                None
            }
        }
    }
}

/// Takes a text that a protocol can carry; `None` with a fault for any other.
fn checked(entry: &Entry<'_>, text: &str, origin: Origin, sheet: &mut Sheet<'_>) -> Option<Secret> {
    let what = if text.is_empty() {
        "is empty"
    } else if text.len() > SECRET_MAX {
        "is longer than 1024 octets"
    } else if text.chars().any(char::is_control) {
        "has a control character, as a line feed, in it"
    } else {
        return Some(Secret {
            text: text.into(),
            origin,
        });
    };
    let message = format!("`{}` ({}) {what}", entry.key, origin.words());
    sheet.fault(entry.key_span.clone(), message);
    None
}

/// Reads a secret's file, without the line end that editors leave.
fn read_file(path: &Path) -> Result<String, String> {
    if !path.is_absolute() {
        return Err("must be an absolute path".to_owned());
    }
    // Not to wait for a writer where the path is a FIFO.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|fault| format!("cannot be read: {fault}"))?;
    let meta = file
        .metadata()
        .map_err(|fault| format!("cannot be read: {fault}"))?;
    if !meta.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut octets = Vec::new();
    // Two more than may be in it, so that what is too long is seen to be.
    file.take(SECRET_MAX as u64 + 2)
        .read_to_end(&mut octets)
        .map_err(|fault| format!("cannot be read: {fault}"))?;
    let text = String::from_utf8(octets).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn warn_if_open(entry: &Entry<'_>, path: &Path, sheet: &mut Sheet<'_>) {
    if path.metadata().is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        let message = format!("{} can be read by every user", path.display());
        let hint = format!("chmod 0600 {}", path.display());
        sheet.warn(entry.key_span.clone(), message, hint);
    }
}

fn variable(name: &str) -> Result<String, String> {
    if name.contains(['=', '\0']) {
        return Err("the name of an environment variable has no `=` in it".to_owned());
    }
    match std::env::var(name) {
        Ok(text) => Ok(text),
        Err(std::env::VarError::NotPresent) => {
            Err(format!("the environment variable {name} is not set"))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(format!("the environment variable {name} is not UTF-8"))
        }
    }
}

impl Origin {
    fn words(&self) -> String {
        match self {
            Origin::Literal => "in the configuration".to_owned(),
            Origin::File(path) => format!("from the file {}", path.display()),
            Origin::Env(name) => format!("from the environment variable {name}"),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "(secret {})", self.origin.words())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const WANTED: &str = "{ file = \"/path\" } or { env = \"NAME\" }";
/// Passwords are short; what is longer is the wrong file.
const SECRET_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use toml_edit::Document;

    /// What is read of `password`, and all that is said about it.
    fn read(value: &str) -> (Option<Secret>, String) {
        let text = format!("[hep]\npassword = {value}\n");
        let mut sheet = Sheet::new("a.toml", &text);
        let document = Document::parse(text.as_str()).expect("the test writes TOML");
        let root = Section::root(document.as_table(), &["hep"], &mut sheet);
        let table = root.entry("hep").expect("it is there");
        let section = Section::open(&table, "[hep]".to_owned(), &["password"], &mut sheet);
        let entry = section.and_then(|section| section.entry("password"));
        let secret = Secret::read(&entry.expect("it is there"), &mut sheet);
        let said = match sheet.close() {
            Ok(warnings) => warnings.iter().map(|fault| format!("{fault}\n")).collect(),
            Err(report) => report.to_string(),
        };
        (secret, said)
    }

    fn scratch(name: &str, octets: &[u8]) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path =
            std::env::temp_dir().join(format!("callgate-secret-{}-{name}", std::process::id()));
        std::fs::write(&path, octets).expect("a scratch file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end_and_shows_itself_nowhere() {
        let path = scratch("file", b"hunter2\n");
        let (secret, said) = read(&format!("{{ file = \"{}\" }}", path.display()));
        let secret = secret.expect("it was read");
        assert_eq!((secret.expose(), said.as_str()), ("hunter2", ""));
        let json = serde_json::to_string(&secret).expect("JSON");
        for shown in [format!("{secret:?}"), secret.to_string(), json] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("secret from the file"), "{shown}");
        }
        let (again, _) = read(&format!("{{ file = \"{}\" }}", path.display()));
        assert_eq!(again.as_ref(), Some(&secret), "nothing changed");
        std::fs::write(&path, "hunter3").expect("written");
        let (changed, _) = read(&format!("{{ file = \"{}\" }}", path.display()));
        assert_ne!(changed.as_ref(), Some(&secret), "a reload sees the change");
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_secret_in_the_configuration_is_taken_and_warned_about_without_being_shown() {
        let (secret, said) = read("\"hunter2\"");
        assert_eq!(secret.expect("it was read").expose(), "hunter2");
        assert!(said.contains("a.toml:2:1: `password` stands in the configuration itself"));
        assert!(
            said.contains("{ env = \"NAME\" }") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn a_secret_comes_from_the_environment() {
        // PATH is set wherever tests run, and no test may set a variable beside other threads.
        let (secret, said) = read("{ env = \"PATH\" }");
        assert_eq!(
            secret.map(|secret| secret.expose().to_owned()),
            std::env::var("PATH").ok()
        );
        assert_eq!(said, "");
    }

    #[test]
    fn what_cannot_be_a_secret_is_told_with_its_place_and_never_shown() {
        let faulty = |value: &str, told: &str| {
            let (secret, said) = read(value);
            assert_eq!(secret, None, "{value}");
            assert!(
                said.contains("a.toml:2:") && said.contains(told),
                "{value}: {said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
        };
        let file = |name: &str, octets: &[u8]| {
            format!("{{ file = \"{}\" }}", scratch(name, octets).display())
        };
        faulty(
            "{ env = \"CALLGATE_NO_SUCH\" }",
            "CALLGATE_NO_SUCH is not set",
        );
        faulty("{ env = \"A=B\" }", "has no `=`");
        faulty(
            "{ file = \"/nonexistent/secret\" }",
            "/nonexistent/secret cannot be read",
        );
        faulty("{ file = \"secret\" }", "must be an absolute path");
        faulty("{ file = \"/tmp\" }", "is not a regular file");
        faulty(&file("empty", b"\n"), "is empty");
        faulty(&file("binary", b"hunter2\xff\xfe"), "is not UTF-8");
        faulty(&file("lines", b"hunter2\nmore\n"), "control character");
        faulty(&file("long", &[b'x'; 5000]), "longer than 1024 octets");
        faulty("{ fiel = \"/a\" }", "did you mean `file`?");
        faulty("{ file = \"/a\", env = \"B\" }", "must be { file");
        faulty("{}", "must be { file");
        faulty("7", "must be { file");
        faulty("[\"hunter2\"]", "must be { file");
        faulty("\"\"", "is empty");
        faulty("\"hunter2\\n\"", "control character");
        for name in ["empty", "binary", "lines", "long"] {
            std::fs::remove_file(scratch(name, b"")).expect("removed");
        }
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_a_writer() {
        let path = scratch("fifo", b"");
        std::fs::remove_file(&path).expect("removed");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo is there").success());
        let (secret, said) = read(&format!("{{ file = \"{}\" }}", path.display()));
        assert_eq!(secret, None);
        assert!(said.contains("is not a regular file"), "{said}");
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_file_that_every_user_can_read_is_warned_about() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = scratch("open", b"hunter2");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        let (secret, said) = read(&format!("{{ file = \"{}\" }}", path.display()));
        assert!(secret.is_some());
        assert!(said.contains("can be read by every user"), "{said}");
        std::fs::remove_file(path).expect("removed");
    }
}
