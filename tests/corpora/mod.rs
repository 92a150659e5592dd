//! Where the test messages lie: beside the package, never inside of it.

use std::path::{Path, PathBuf};

/// The folder of one corpus; its absence is told, not skipped.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/corpora")
        .join(name);
    assert!(
        path.is_dir(),
        "this test needs the corpus {}",
        path.display()
    );
    path
}

/// The rows of a corpus's index, each as its columns, without the heading.
pub fn index(folder: &Path) -> Vec<Vec<String>> {
    let path = folder.join("index.tsv");
    let text = std::fs::read_to_string(&path).expect("an index");
    let rows = text.lines().skip(1);
    rows.map(|row| row.split('\t').map(str::to_owned).collect())
        .collect()
}

/// One file of a corpus.
pub fn read(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).expect("a file that the index names")
}
