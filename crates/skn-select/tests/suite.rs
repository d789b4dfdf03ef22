//! Selection. One program, since each is linked anew.

mod golden;
mod properties;
mod stability;
