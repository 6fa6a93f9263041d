use std::fmt::Write as _;

use crate::{ClassFigures, Figures, LoadFigures};

/// The figures as Markdown tables, one for each load.
#[must_use]
pub fn markdown(figures: &Figures) -> String {
    let mut text = format!(
        "# Every class at once, on a simulated clock\n\n\
         A link of {} Mbit/s, {} s each; the worker's loop turns every {} ns. Calls are sessions of\n\
         214-byte frames, everything else is 1,514-byte frames at random (Poisson). At load 1 each\n\
         class is offered its fair share: telephony 10 %, admitted telephony 5 %, lower effort 1 %,\n\
         the others their weight's part of what is left. Rates are those of the wire.\n",
        figures.rate_bit_s / 1_000_000,
        figures.seconds,
        figures.turn_ns
    );
    for load in &figures.loads {
        section(&mut text, load);
    }
    text
}

fn section(text: &mut String, load: &LoadFigures) {
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "\n## {} x the link's rate\n\n\
         EF's error terms (RFC 3246): E_a {:.1} us, E_p {:.1} us; a packet of the largest size takes \
         {:.1} us.\n\n\
         | class | service | offered kbit/s | delivered kbit/s | of the link | promised | lost by \
         drop precedence | delay p50 / p99 / p99.9 / max, ms |\n\
         |---|---|---|---|---|---|---|---|\n",
        load.load, load.e_a_us, load.e_p_us, load.largest_packet_us
    );
    for class in &load.classes {
        let _ = writeln!(text, "{}", row(class));
    }
}

fn row(class: &ClassFigures) -> String {
    let ms = |us: f64| format!("{:.2}", us / 1e3);
    let lost: Vec<_> = class
        .lost_percent
        .iter()
        .flatten()
        .map(|lost| format!("{lost:.1} %"))
        .collect();
    format!(
        "| {} | {} | {:.0} | {:.0} | {:.2} % | {} | {} | {} / {} / {} / {} |",
        class.class,
        class.service,
        class.offered_bit_s / 1e3,
        class.delivered_bit_s / 1e3,
        class.got_percent,
        class
            .promised_percent
            .map_or_else(|| "all".to_owned(), |promised| format!("{promised:.2} %")),
        lost.join(", "),
        ms(class.p50_us),
        ms(class.p99_us),
        ms(class.p999_us),
        ms(class.max_us)
    )
}
