//! The generator's clock and its one draw of entropy.

use std::fs::File;
use std::io::{self, Read};

use callgate::base::Instant;

/// Microseconds since it was made; all threads of a run count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts to count.
    #[expect(clippy::disallowed_methods, reason = "the generator's only clock")]
    pub fn start() -> Clock {
        Clock {
            start: std::time::Instant::now(),
        }
    }

    /// Reads the clock.
    pub fn now(&self) -> Instant {
        Instant::START + self.start.elapsed()
    }
}

/// A seed nobody has used: branches of two runs must not meet in a proxy's tables.
pub fn fresh_seed() -> io::Result<[u64; 4]> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut seed = [0; 4];
    for (word, octets) in seed.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*octets);
    }
    Ok(seed)
}
