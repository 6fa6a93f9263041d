//! What an operator asks a running router for, and changes in it.

mod ef_report;
mod metrics;
mod rules;
mod trace;
