//! What the fuzz checks (`passmint-fuzz-checks`) reach of this module: settings from texts, without a disk and
//! without the real environment. Nothing of the server calls it.

use std::path::Path;

use super::reader::Reader;
use super::{Config, ConfigError, Sources};

/// As `Config::load` does, from the text of a `passmint.toml` and from variables; `read_file` gives
/// what the `…_file` settings name.
pub fn load(
    toml: &str,
    environment: Vec<(String, String)>,
    read_file: fn(&Path) -> std::io::Result<String>,
) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(read_file);
    reader.add_text(Path::new("passmint.toml"), toml);
    Config::read(reader, &Sources { environment, ..Sources::default() })
}
