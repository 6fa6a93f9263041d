//! Sessions: where their packets come in, sources that are learned, meters, and how well they arrive.

mod ingress;
mod latching;
mod metering;
mod quality;
