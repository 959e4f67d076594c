//! How a row of the table in `mod.rs` becomes an operation of [`Purgatory`](super::Purgatory).

/// Makes the methods of [`Purgatory`](super::Purgatory), each one atomic step, out of rows of
///
/// ```text
/// /// What it does.
/// pub fn operation(argument: Type) -> Answer =
///     ("what it does, for error messages", ARGV of the script, decoder of the script's answer);
/// ```
///
/// The script is `scripts/<operation>.lua`.
macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        $visibility:vis fn $operation:ident($($argument:ident: $type:ty),* $(,)?) -> $answer:ty =
            ($name:literal, $arguments:expr, $decode:expr);
    )*) => {
        impl Purgatory {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As for all operations.
                $visibility async fn $operation(&self $(, $argument: $type)*) -> Result<$answer, PurgatoryError> {
                    self.call(&SCRIPTS.$operation, $arguments, $decode).await
                }
            )*
        }

        /// The script of each operation.
        struct Scripts {
            $($operation: PurgatoryScript,)*
        }

        static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($operation: PurgatoryScript::new(
                $name,
                include_str!(concat!("scripts/", stringify!($operation), ".lua")),
            ),)*
        });

        impl Scripts {
            fn all(&self) -> Vec<&PurgatoryScript> {
                vec![$(&self.$operation,)*]
            }
        }
    };
}
