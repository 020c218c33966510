//! NetworkPolicy from Kubernetes' JSON to verdicts, against an evaluator that reads the JSON itself.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

mod cases;
mod grid;
mod matrix;
mod naive;
mod subject;
