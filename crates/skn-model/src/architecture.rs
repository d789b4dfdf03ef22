//! A model as data: which parts it has, what their tensors are called, and of which shape they are.

mod encoders;
mod names;
mod part;
mod tensors;

pub(crate) use encoders::{BERT, ROBERTA};
pub(crate) use names::Names;
pub(crate) use part::{LayerPart, Part};
pub(crate) use tensors::{Form, Module};
