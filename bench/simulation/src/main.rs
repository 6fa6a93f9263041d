//! Prints what each class gets under several loads, on a simulated clock.

#![forbid(unsafe_code)]

use clap::Parser;
use voicelane_bench::report::Files;
use voicelane_dataplane::units::BitRate;

/// Offers every class of RFC 4594 at once to the dataplane on a simulated device, and prints for
/// each what it got: rate, loss by drop precedence, delay, and EF's error terms.
///
/// The clock is simulated, so the figures are the same on every machine. The table that is kept:
///
///     voicelane-simulation --markdown bench/results/classes-simulated.md \
///         --json bench/results/classes-simulated.json
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The link's rate, on the wire.
    #[arg(long, default_value = "10Mbit/s")]
    rate: BitRate,
    /// Simulated seconds of each load.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// The loads, as multiples of the link's rate.
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,1.5,3")]
    loads: Vec<f64>,
    #[command(flatten)]
    files: Files,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let figures = voicelane_simulation::run(arguments.rate, arguments.seconds, &arguments.loads)?;
    let tables = voicelane_simulation::markdown(&figures);
    arguments.files.write(&figures, &tables)?;
    println!("{tables}");
    Ok(())
}
