//! Statistics, gradients and rankings, on models that tests make. One program, since each is linked anew.

mod fire;
mod golden;
mod gradients;
mod own_statistic;
mod planted;
mod rankings;
mod reference;
mod stored;
mod top;

// What they share.
mod support;
