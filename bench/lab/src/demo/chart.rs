//! The report as a picture.

use std::path::Path;

use plotters::{
    coord::ranged1d::SegmentValue,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use voicelane_bench::picture::{self, Area, BLUE, Failure, GREEN, GREY, RED, pixel};

use super::{Phase, Report};

const SIZE: (u32, u32) = (1_200, 860);

/// A figure of a phase: its name in the legend, its colour, and how to read it.
type Series = (&'static str, RGBColor, fn(&Phase) -> f64);

/// Draws a report to an SVG file: loss, delay, MOS and bulk, each by phase.
pub fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    picture::draw(file, SIZE, |root| draw_on(report, root))
}

fn draw_on<'a>(report: &Report, root: &Area<'a>) -> Result<(), Failure<'a>> {
    let calls = report
        .phases
        .iter()
        .map(|phase| phase.calls)
        .max()
        .unwrap_or(0);
    let title = format!(
        "{calls} calls over IPv{} on a core link of 10 Mbit/s that bulk traffic overloads twice",
        report.ip
    );
    let body = root.titled(&title, ("sans-serif", 26).into_font().color(&GREY))?;
    let largest = |least: f64, figure: fn(&Phase) -> f64| {
        let figures = report.phases.iter().map(figure);
        figures.fold(least, f64::max)
    };
    let longest = largest(1.0, |phase| phase.delay_ms.max);
    let most_bulk = largest(10.0, |phase| phase.bulk_mbit_s);
    let panels: [(&str, f64, &[Series]); 4] = [
        (
            "Packets of calls lost (%)",
            115.0,
            &[("loss", RED, |phase| phase.loss_percent)],
        ),
        (
            "One-way delay (ms)",
            longest * 1.25,
            &[
                ("p50", BLUE, |phase| phase.delay_ms.p50),
                ("p99", RED, |phase| phase.delay_ms.p99),
                ("max", GREY, |phase| phase.delay_ms.max),
            ],
        ),
        (
            "Speech quality (MOS, 1 to 4.5)",
            5.6,
            &[
                ("worst call", RED, |phase| phase.mos.min),
                ("mean", GREEN, |phase| phase.mos.mean),
            ],
        ),
        (
            "Bulk that arrived (Mbit/s of IP)",
            most_bulk * 1.2,
            &[("bulk", BLUE, |phase| phase.bulk_mbit_s)],
        ),
    ];
    for (area, (title, top, series)) in body.split_evenly((2, 2)).iter().zip(panels) {
        panel(root, area, title, &report.phases, top, series)?;
    }
    Ok(())
}

/// Bars by phase, with their values above them.
fn panel<'a>(
    root: &Area<'a>,
    area: &Area<'a>,
    title: &str,
    phases: &[Phase],
    top: f64,
    series: &[Series],
) -> Result<(), Failure<'a>> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 19).into_font().color(&GREY))
        .margin(14)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(
            (0..phases.len().saturating_sub(1)).into_segmented(),
            0.0..top,
        )?;
    let name = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(index) => {
            phases.get(*index).map_or("", |phase| phase.name).to_owned()
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.2))
        .axis_style(GREY)
        .x_label_formatter(&name)
        .x_labels(phases.len() + 1)
        .y_labels(6)
        .label_style(("sans-serif", 14).into_font().color(&GREY))
        .draw()?;

    // In pixels of the whole picture, because several bars share a segment.
    let plot = chart.plotting_area();
    let (columns, _) = plot.get_pixel_range();
    #[allow(clippy::cast_precision_loss)] // five phases
    let segment = f64::from(columns.end - columns.start) / phases.len().max(1) as f64;
    let at =
        |index: usize, value: f64| plot.map_coordinate(&(SegmentValue::CenterOf(index), value));
    #[allow(clippy::cast_precision_loss)] // at most three bars
    let count = series.len() as f64;
    for (index, phase) in phases.iter().enumerate() {
        for (place, (_, colour, figure)) in (0u8..).zip(series) {
            let value = figure(phase);
            let (centre, y) = at(index, value);
            let (_, zero) = at(index, 0.0);
            let width = segment * 0.8 / count;
            let x = f64::from(centre) + width * (f64::from(place) - count / 2.0);
            let (x0, x1) = (pixel(x + 1.0), pixel(x + width - 1.0));
            root.draw(&Rectangle::new([(x0, y), (x1, zero)], colour.filled()))?;
            let style = ("sans-serif", 12)
                .into_font()
                .color(&GREY)
                .pos(Pos::new(HPos::Center, VPos::Bottom));
            root.draw(&Text::new(label(value), ((x0 + x1) / 2, y - 3), style))?;
        }
    }
    if series.len() > 1 {
        let (_, y) = at(0, top);
        let mut x = columns.end - 88 * i32::try_from(series.len()).unwrap_or(0);
        for (name, colour, _) in series {
            root.draw(&Rectangle::new([(x, y), (x + 11, y + 11)], colour.filled()))?;
            let style = ("sans-serif", 13).into_font().color(&GREY);
            root.draw(&Text::new(*name, (x + 16, y), style))?;
            x += 88;
        }
    }
    Ok(())
}

fn label(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use voicelane_bench::Machine;

    #[test]
    fn the_picture_names_phases_and_units() {
        let names = ["idle", "overload", "sessions", "ef-marked-bulk", "deleted"];
        let phases = names.map(|name| Phase {
            name,
            calls: 20,
            loss_percent: 12.5,
            bulk_mbit_s: 7.85,
            ..Phase::default()
        });
        let report = Report {
            phases: phases.into(),
            checks: Vec::new(),
            longest_stall_ms: None,
            machine: Machine::read(),
            commit: String::new(),
            ports: "af_packet",
            ip: 6,
            notes: Vec::new(),
        };
        let file = std::env::temp_dir().join(format!("voicelane-chart-{}.svg", std::process::id()));
        draw(&report, &file).unwrap();
        let svg = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        for text in names.into_iter().chain([
            "20 calls over IPv6",
            "(ms)",
            "(%)",
            "Mbit/s",
            "12.5",
            "7.85",
        ]) {
            assert!(svg.contains(text), "{text}");
        }
    }
}
