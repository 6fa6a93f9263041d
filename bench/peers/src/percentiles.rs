//! Delays as a picture: within what time which share of the packets was sent.

use std::path::Path;

use plotters::prelude::*;
use voicelane_bench::picture::{self, Area, Failure, GREY};

use crate::delays::{Delays, Report};

const SIZE: (u32, u32) = (1_000, 620);
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x9c, 0xc3, 0xe6),
    RGBColor(0x4a, 0x90, 0xd0),
    RGBColor(0x1f, 0x4e, 0x8c),
    RGBColor(0xc8, 0x3c, 0x3c),
    RGBColor(0xf0, 0xc8, 0x98),
    RGBColor(0xdd, 0x8a, 0x3c),
    RGBColor(0x9a, 0x5a, 0x18),
    RGBColor(0xa8, 0xb0, 0xbd),
];

/// Draws a report to an SVG file.
pub(crate) fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    picture::draw(file, SIZE, |area| draw_on(report, area))
}

fn draw_on<'a>(report: &Report, area: &Area<'a>) -> Result<(), Failure<'a>> {
    let mut lines: Vec<(String, &Delays)> = vec![];
    for row in &report.rows {
        lines.push((format!("{}, EF, {}", row.program, row.load), &row.ef));
    }
    let spinning = "a thread that only reads the clock".to_owned();
    lines.push((spinning, &report.stalls.spinning_us));
    let longest = lines
        .iter()
        .map(|(_, delays)| delays.max_us)
        .fold(10.0, f64::max);

    let title =
        "From due to sent: within how many microseconds which share of the packets was sent";
    let body = area.titled(title, ("sans-serif", 18).into_font().color(&GREY))?;
    let mut chart = ChartBuilder::on(&body)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..7.0, (0.02..longest * 100.0).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.2))
        .axis_style(GREY)
        .x_labels(8)
        .x_label_formatter(&|nines| share(*nines))
        .y_desc("microseconds")
        .label_style(("sans-serif", 14).into_font().color(&GREY))
        .draw()?;
    for ((name, delays), colour) in lines.into_iter().zip(COLOURS) {
        // One more nine is one step to the right.
        let points = delays
            .curve
            .iter()
            .map(|(share, us)| (-(1.0 - share).log10(), us.max(0.02)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 14).into_font().color(&GREY))
        .draw()
}

/// 0 %, 90 %, 99 % and so on.
fn share(nines: f64) -> String {
    let digits = if nines > 2.0 { nines - 2.0 } else { 0.0 };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few digits"
    )]
    let digits = digits.round() as usize;
    format!("{:.digits$} %", 100.0 - 100.0 / 10_f64.powf(nines))
}
