//! The statistics against other programs. One program, since each is linked anew.

mod classification;
mod reference;
mod sign_flip;
