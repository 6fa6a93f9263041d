//! `router ef-report --svg`: for each port a line for each class, from its median to its longest
//! delay, and EF's error terms beside the ideal.

use std::path::Path;

use plotters::{coord::Shift, prelude::*};
use voicelane_proto::v1::{PortEf, ReportEfResponse};

use super::{ef::title, rate};

const WIDTH: u32 = 1_000;
const HEADER: u32 = 50;
/// Height of a port's chart beside its rows.
const FRAME: u32 = 110;
const ROW: u32 = 26;
const GREY: RGBColor = RGBColor(0x55, 0x5b, 0x66);
const RED: RGBColor = RGBColor(0xc8, 0x3c, 0x3c);
const BLUE: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
const GREEN: RGBColor = RGBColor(0x2f, 0x85, 0x5a);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// Draws a report to an SVG file.
pub(crate) fn draw(report: &ReportEfResponse, file: &Path) -> Result<(), String> {
    let heights: Vec<_> = report.ports.iter().map(height).collect();
    let size = (WIDTH, HEADER + heights.iter().sum::<u32>());
    let root = SVGBackend::new(file, size).into_drawing_area();
    draw_on(report, &heights, &root).map_err(|error| error.to_string())
}

fn draw_on<'a>(
    report: &ReportEfResponse,
    heights: &[u32],
    root: &Area<'a>,
) -> Result<(), Failure<'a>> {
    root.fill(&WHITE)?;
    let title = format!("Queueing delay and EF's error terms: {}", title(report));
    let body = root.titled(&title, ("sans-serif", 22).into_font().color(&GREY))?;
    let mut rest = body;
    for (port, height) in report.ports.iter().zip(heights) {
        let (area, below) = rest.split_vertically(*height);
        draw_port(port, &area)?;
        rest = below;
    }
    root.present()
}

fn rows(port: &PortEf) -> usize {
    // One for the error terms.
    port.phbs.len() + 1
}

fn height(port: &PortEf) -> u32 {
    FRAME + ROW * u32::try_from(rows(port)).unwrap_or(u32::MAX / ROW / 2)
}

fn draw_port<'a>(port: &PortEf, area: &Area<'a>) -> Result<(), Failure<'a>> {
    let longest = port
        .phbs
        .iter()
        .filter_map(|class| class.delay_us)
        .map(|delay| delay.max)
        .fold(port.e_a_us.max(port.e_p_us).max(port.ideal_us), f64::max);
    let rows = rows(port);
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!(
                "{}: {}, EF {}",
                port.port,
                rate(port.rate_bps),
                rate(port.ef_rate_bps)
            ),
            ("sans-serif", 17).into_font().color(&GREY),
        )
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(170)
        .build_cartesian_2d((1.0..longest.max(10.0) * 2.0).log_scale(), 0..rows)?;
    let name = |row: &usize| match rows.checked_sub(row + 1) {
        Some(0) => "EF error terms".to_owned(),
        Some(class) => port
            .phbs
            .get(class - 1)
            .map_or_else(String::new, |class| class.phb.clone()),
        None => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(GREY.mix(0.15))
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .x_desc("microseconds")
        .y_labels(rows)
        .y_label_formatter(&name)
        .draw()?;
    let row = |index: usize| rows - 1 - index;
    let mut dot = |at: f64, row: usize, colour: RGBColor, label: String| {
        let at = at.max(1.0);
        chart
            .draw_series([EmptyElement::at((at, row))
                + Circle::new((0, -6), 4, colour.filled())
                + Text::new(
                    label,
                    (6, -16),
                    ("sans-serif", 11).into_font().color(&colour),
                )])
            .map(drop)
    };
    dot(port.ideal_us, row(0), GREEN, "ideal".to_owned())?;
    if port.packets > 0 {
        dot(port.e_a_us, row(0), RED, "E_a".to_owned())?;
        if port.e_p_us > port.e_a_us * 1.05 {
            dot(port.e_p_us, row(0), RED, "E_p".to_owned())?;
        }
    }
    for (index, class) in port.phbs.iter().enumerate() {
        let (row, delay) = (row(index + 1), class.delay_us.unwrap_or_default());
        for (at, label) in [(delay.p50, "p50"), (delay.p99, "p99"), (delay.max, "max")] {
            dot(at, row, BLUE, label.to_owned())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::ef::tests::example, *};

    #[test]
    fn the_picture_names_ports_and_classes() {
        let file = std::env::temp_dir().join(format!("ef-report-{}.svg", std::process::id()));
        draw(&example(), &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for word in ["core", "telephony", "E_a", "ideal"] {
            assert!(svg.contains(word), "{word}");
        }
    }
}
