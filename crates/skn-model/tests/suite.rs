//! Models of other families and files. One program, since each is linked anew.

mod gguf;
mod models;
mod more;
mod uniform;
