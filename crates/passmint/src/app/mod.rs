//! The one place that puts the parts together: settings in, a running server out. Commands and tests
//! use the same.
//!
//! `open` opens the database and builds the services, `server` binds and runs them, `reload` gives them
//! new settings.

mod open;
mod reload;
mod server;

pub use open::{
    Opening, check_files, mark_folders, master_key_file, open, refuse_to_begin_over_another,
};
pub use reload::reload;
pub use server::{CERTIFICATE_IS_DUE, Server, load_tls};
