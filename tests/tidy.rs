//! The rules of the house that a compiler does not check: layers, bans, headers, sizes.
//!
//! Each rule reads the sources as text. Lines from `#[cfg(test)] mod … {` to the end of a file are
//! test code, to which the layer and clock rules do not apply.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every module of the library and its layer: a module imports only from lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("metrics", 1),
    ("net", 1),
    ("sip", 2),
    ("transaction", 3),
    ("capture", 4),
    ("cdr", 4),
    ("dialog", 4),
    ("limit", 4),
    ("location", 4),
    ("route", 4),
    ("guard", 4),
    ("shard", 5),
    ("io", 5),
    ("config", 6),
    ("control", 6),
    ("runtime", 7),
];

/// Lines of a source file before its tests: what is longer is two files.
const FILE_LINES_MAX: usize = 600;

/// File names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "manager", "common", "misc",
];

/// Text that only these modules may contain, and why.
const BANS: &[(&[&str], &[&str], &str)] = &[
    (
        &["Instant::now", "SystemTime", "UNIX_EPOCH"],
        &["io", "runtime"],
        "time comes in as an argument",
    ),
    (
        &["UdpSocket", "TcpStream", "TcpListener"],
        &["io", "runtime", "control"],
        "sockets live outside of the machine",
    ),
    (
        &["thread::spawn", "thread::Builder", "thread::sleep"],
        &["runtime", "control"],
        "threads are the runtime's",
    ),
    (
        &["getrandom", "rand::", "/dev/urandom", "RandomState::new"],
        &["runtime"],
        "entropy comes in as a seed",
    ),
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The first component below `src/`: the module, or `lib` and `main`.
    fn module(&self) -> &str {
        let first = self.path.components().nth(1).expect("a path below src");
        Path::new(first.as_os_str())
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a UTF-8 file name")
    }

    fn is_root(&self) -> bool {
        matches!(self.module(), "lib" | "main")
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.path.components().any(|part| {
            Path::new(part.as_os_str())
                .file_stem()
                .is_some_and(|stem| stem == "tests")
        })
    }

    /// Numbered lines before the tests.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let count = if self.is_test() {
            0
        } else {
            self.lines_before_tests()
        };
        self.text
            .lines()
            .take(count)
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }

    /// The same without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at, line.split(" // ").next().expect("split gives one part")))
    }

    fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        (0..lines.len())
            .find(|&at| opens_tests(&lines, at))
            .unwrap_or(lines.len())
    }
}

fn opens_tests(lines: &[&str], at: usize) -> bool {
    let follows = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
    lines[at].starts_with("#[cfg(")
        && lines[at].contains("test")
        && follows.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &str, wanted: &dyn Fn(&Path) -> bool) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(dir)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory that can be read");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if wanted(&path) {
            let bytes = fs::read(&path).expect("a file that can be read");
            found.push(Source {
                path: path
                    .strip_prefix(root())
                    .expect("below the root")
                    .to_owned(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn library() -> Vec<Source> {
    let sources = files_below("src", &is_rust);
    assert!(
        !sources.is_empty(),
        "no sources found below {}",
        root().display()
    );
    sources
}

fn all_rust() -> Vec<Source> {
    ["src", "tests", "bench"]
        .iter()
        .filter(|dir| root().join(dir).exists())
        .flat_map(|dir| files_below(dir, &is_rust))
        .collect()
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// Collects faults and fails with all of them at once.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, source: &Source, line: usize, what: &str) {
        writeln!(self.0, "{}:{line}: {what}", source.name()).expect("writing to a String");
    }

    fn check(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// The modules named right after each `crate::` of a line, also in `crate::{a::B, c::D}`.
fn modules_named(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(heads(list)),
            None => found.push(identifier(rest)),
        }
    }
    found
}

fn heads(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = vec![identifier(list)];
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(identifier(list[at + 1..].trim_start())),
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn every_module_has_a_layer() {
    let mut faults = Faults::default();
    for source in library() {
        if !source.is_root() && layer_of(source.module()).is_none() {
            faults.add(
                &source,
                1,
                "this module has no place in LAYERS of tests/tidy.rs",
            );
        }
    }
    faults.check();
}

#[test]
fn a_module_imports_only_from_lower_layers() {
    let mut faults = Faults::default();
    for source in library().iter().filter(|source| !source.is_root()) {
        let own = layer_of(source.module()).unwrap_or(0);
        let code: Vec<(usize, &str)> = source.code().collect();
        for (at, (line, text)) in code.iter().enumerate() {
            let mut whole = (*text).to_owned();
            if text.trim_end().ends_with("crate::{") {
                let rest = code[at + 1..]
                    .iter()
                    .take_while(|(_, text)| !text.starts_with("};"));
                whole.extend(rest.map(|(_, text)| text.trim()));
            }
            for named in modules_named(&whole) {
                let Some(layer) = layer_of(&named) else {
                    continue;
                };
                if named != source.module() && layer >= own {
                    faults.add(
                        source,
                        *line,
                        &format!("imports {named} (layer {layer}) into layer {own}"),
                    );
                }
            }
        }
    }
    faults.check();
}

#[test]
fn no_import_climbs_out_of_its_module_by_super() {
    let mut faults = Faults::default();
    for source in library().iter().filter(|source| !source.is_root()) {
        let is_mod = source.path.ends_with("mod.rs");
        let depth = source.path.components().count() - if is_mod { 2 } else { 1 };
        let climb = "super::".repeat(depth);
        for (line, text) in source.code() {
            if text.contains(&climb) && depth > 0 {
                faults.add(
                    source,
                    line,
                    "reaches the crate root by super::, which hides the layer",
                );
            }
        }
    }
    faults.check();
}

#[test]
fn clocks_sockets_threads_and_entropy_stay_in_their_rooms() {
    let mut faults = Faults::default();
    for source in library().iter().filter(|source| !source.is_root()) {
        for (texts, rooms, why) in BANS {
            if rooms.contains(&source.module()) {
                continue;
            }
            for (line, text) in source.code() {
                for banned in texts.iter().filter(|banned| text.contains(**banned)) {
                    faults.add(
                        source,
                        line,
                        &format!("{banned} is for {} only: {why}", rooms.join(", ")),
                    );
                }
            }
        }
    }
    faults.check();
}

#[test]
fn every_file_says_what_lives_in_it() {
    let mut faults = Faults::default();
    for source in all_rust() {
        let opens = source.text.lines().find(|line| !line.trim().is_empty());
        if !opens.is_some_and(|line| line.starts_with("//! ")) {
            faults.add(&source, 1, "does not open with a //! header");
        }
    }
    faults.check();
}

#[test]
fn library_code_does_not_unwrap() {
    let mut faults = Faults::default();
    for source in library() {
        for (line, text) in source.code() {
            if text.contains(".unwrap()") {
                faults.add(
                    &source,
                    line,
                    "unwrap(): an expect() states what makes it true",
                );
            }
        }
    }
    faults.check();
}

#[test]
fn no_lint_is_silenced_without_a_reason() {
    let mut faults = Faults::default();
    let bare = ["#[", "#!["].map(|open| format!("{open}allow("));
    for source in all_rust() {
        for (line, text) in source.text.lines().enumerate() {
            if bare.iter().any(|bare| text.contains(bare.as_str())) && !text.contains("reason =") {
                faults.add(
                    &source,
                    line + 1,
                    "use expect(lint, reason = …), or allow with a reason",
                );
            }
        }
    }
    faults.check();
}

#[test]
fn nothing_is_left_to_be_written() {
    let mut faults = Faults::default();
    let marks =
        ["TO", "FIX"].map(|half| format!("{half}{}", if half == "TO" { "DO" } else { "ME" }));
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    for source in all_rust() {
        for (line, text) in source.text.lines().enumerate() {
            for mark in marks
                .iter()
                .chain(&macros)
                .filter(|mark| text.contains(mark.as_str()))
            {
                faults.add(&source, line + 1, mark);
            }
        }
    }
    faults.check();
}

#[test]
fn no_file_is_too_long_to_be_one_thing() {
    let mut faults = Faults::default();
    for source in library() {
        let count = source.lines().count();
        if count > FILE_LINES_MAX {
            faults.add(
                &source,
                count,
                &format!("longer than {FILE_LINES_MAX} lines: what is it two of?"),
            );
        }
    }
    faults.check();
}

#[test]
fn every_file_name_says_something() {
    let mut faults = Faults::default();
    for source in all_rust() {
        let empty = source.path.components().any(|part| {
            let stem = Path::new(part.as_os_str()).file_stem();
            stem.and_then(|stem| stem.to_str())
                .is_some_and(|stem| EMPTY_NAMES.contains(&stem))
        });
        if empty {
            faults.add(&source, 1, "this name fits every file");
        }
    }
    faults.check();
}

#[test]
fn no_path_of_a_developers_machine_is_in_the_repository() {
    let mut faults = Faults::default();
    let places = ["work", "root", "home", "Users"].map(|place| format!("/{place}/"));
    let is_text = |path: &Path| {
        let named = |name: &str| path.extension().is_some_and(|extension| extension == name);
        !["dat", "sip", "png", "lock"].iter().any(|name| named(name))
    };
    let dirs = ["src", "tests", "bench", "tuning", "docs", ".ci"];
    let files = [
        "README.md",
        "Cargo.toml",
        "clippy.toml",
        ".gitignore",
        ".gitattributes",
    ];
    for name in dirs
        .iter()
        .chain(&files)
        .filter(|name| root().join(name).exists())
    {
        for source in files_below(name, &is_text) {
            for (line, text) in source.text.lines().enumerate() {
                for place in places.iter().filter(|place| text.contains(place.as_str())) {
                    faults.add(&source, line + 1, &format!("contains {place}"));
                }
            }
        }
    }
    faults.check();
}

#[test]
fn imports_are_found_in_every_form() {
    assert_eq!(modules_named("use crate::net::Flow;"), ["net"]);
    assert_eq!(
        modules_named("use crate::{base::{Cursor, Instant}, net, sip::Via};"),
        ["base", "net", "sip"]
    );
    assert_eq!(
        modules_named("fn f(a: crate::io::A, b: crate::limit::B)"),
        ["io", "limit"]
    );
    assert!(modules_named("use super::Flow;").is_empty());
}

/// The tests that a page names in the last column of its tables.
fn tests_named(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| word.contains('_') && word.chars().all(is_name_letter);
    words.filter(is_name).collect()
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md");
    let sources = all_rust();
    let is_test = |name: &str| {
        let line = format!("fn {name}()");
        sources.iter().any(|source| {
            let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
            let found = lines.iter().position(|text| text.starts_with(&line));
            found.is_some_and(|at| lines[at.saturating_sub(3)..at].contains(&"#[test]"))
        })
    };
    let named = tests_named(&page);
    assert!(named.len() > 60, "only {} tests are named", named.len());
    let missing: Vec<&str> = named.into_iter().filter(|name| !is_test(name)).collect();
    assert!(
        missing.is_empty(),
        "docs/security.md names no tests: {missing:#?}"
    );
}

/// A counter that is never counted is a promise on the page of metrics that nothing keeps.
#[test]
fn every_counter_is_counted_somewhere() {
    let library = library();
    let rows = library
        .iter()
        .find(|source| source.name() == "src/metrics/mod.rs");
    let rows = rows.expect("the table of counters");
    let names: Vec<String> = rows
        .code()
        .filter(|(_, line)| line.contains(" = \"callgate_"))
        .map(|(_, line)| identifier(line.trim_start()))
        .collect();
    assert!(names.len() > 100, "{names:?}");
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut faults = Faults::default();
    for name in names {
        let is_word = |line: &str| {
            let mut found = line.match_indices(name.as_str());
            found.any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let behind = line[at + name.len()..].chars().next();
                !before.is_some_and(is_part) && !behind.is_some_and(is_part)
            })
        };
        let uses = |source: &Source| source.code().filter(|(_, line)| is_word(line)).count();
        if library.iter().map(uses).sum::<usize>() < 2 {
            faults.add(rows, 0, &format!("{name} is never counted"));
        }
    }
    faults.check();
}

/// A patch that no longer fits would plant nothing, and prove nothing of the simulator.
#[test]
fn every_planted_bug_can_still_be_planted() {
    let patches = files_below("tests/sim/planted", &|path| {
        path.extension().is_some_and(|end| end == "patch")
    });
    assert!(patches.len() >= 7, "{}", patches.len());
    for patch in patches {
        let name = patch.name();
        let checked = Command::new("git")
            .args(["apply", "--check", &name])
            .current_dir(root())
            .output();
        let checked = checked.expect("git runs");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{name}: {said}");
    }
}
