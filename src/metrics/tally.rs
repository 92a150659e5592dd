//! Plain numbers of a part that is no metric table itself: one declaration per number.

/// Declares a struct of counters with `COUNT`, `ROWS` (name and help) and `values()` in one order.
macro_rules! tally {
    ($(#[$doc:meta])* $name:ident { $($field:ident = $help:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $(#[doc = $help] pub $field: u64,)* }

        impl $name {
            /// Name and help text of each counter, in the order of `values`.
            pub const ROWS: [(&'static str, &'static str); Self::COUNT] =
                [$((stringify!($field), $help),)*];

            /// How many counters there are.
            pub const COUNT: usize = [$($help,)*].len();

            /// Every counter, in the order of `ROWS`.
            pub const fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$field,)*]
            }
        }
    };
}

pub(crate) use tally;
