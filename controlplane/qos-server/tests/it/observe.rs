//! What callers and operators read: events, explanations, figures, records of calls, and the page.

mod events;
mod explain;
mod explain_now;
mod metrics;
mod quality;
mod records;
mod strays;
mod watch;
mod web;
mod web_readers;
