//! `invite`, `devices`, `policy`: from arguments to requests, and the picture of a QR.

use crate::args::{Args, DeviceVerb, PolicyVerb, QuarantineVerb, Verb};
use crate::render;
use crate::run::{LAST_WORK, until_told};
use crate::ui::Ui;
use cairn_node::{Client, DeviceRequest, InviteRequest, Live, NodeError, PolicyRequest, Reply, Request, ServeOptions, invite_live};
use std::io::Read;
use std::path::Path;

/// `invite`: says what a newcomer receives, then shows the ticket, QR or code.
pub fn invite(args: &Args, client: &Client, ui: &Ui) -> Result<Reply, NodeError> {
    let Verb::Invite { role, uses, approve, qr, code, out, list, revoke, dry_run, listen, no_discovery, .. } = &args.verb else {
        return Err(NodeError::Input { message: "not an invitation".into() });
    };
    let mode = [(*approve, "approve"), (*qr, "qr"), (*code, "code")].iter().find(|(on, _)| *on).map(|(_, word)| (*word).to_owned());
    let request = InviteRequest { role: role.clone(), uses: *uses, mode, revoke: revoke.clone(), list: *list, dry_run: *dry_run };
    let seen = |_, _, _| {};
    if *list || revoke.is_some() || *dry_run {
        return client.ask(Request::Invite(request), &seen);
    }
    if !args.json {
        let told = client.ask(Request::Invite(InviteRequest { dry_run: true, ..request.clone() }), &seen)?;
        ui.say(&render::before_inviting(&told.data));
    }
    if let Some(path) = out {
        writable(path)?;
    }
    let live = *qr || *code;
    let reply = if live && !client.is_served()? {
        let options = ServeOptions { listen: *listen, discovery: !no_discovery, max_bytes: None };
        wait_for_guest(client, options, request, out.as_deref(), ui)?
    } else {
        let reply = client.ask(Request::Invite(request), &seen)?;
        draw(&reply, out.as_deref())?;
        reply
    };
    Ok(reply)
}

fn wait_for_guest(client: &Client, options: ServeOptions, request: InviteRequest, out: Option<&Path>, ui: &Ui) -> Result<Reply, NodeError> {
    let node = client.open()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| NodeError::Store { message: e.to_string() })?;
    let drawn = std::cell::RefCell::new(Ok(()));
    let tell = |event: Live<'_>| match event {
        Live::Shown(reply) => {
            *drawn.borrow_mut() = draw(reply, out);
            ui.shown(reply);
        }
        Live::Heard(heard) => ui.heard(heard),
    };
    let reply = runtime.block_on(async { invite_live(node, options, request, tell, until_told()?).await });
    // As a service: what does not answer is not waited for.
    runtime.shutdown_timeout(LAST_WORK);
    let reply = reply?;
    drawn.into_inner()?;
    Ok(reply)
}

/// Looked at before the invitation exists: one whose picture cannot be written would stay open unseen.
fn writable(path: &Path) -> Result<(), NodeError> {
    let fault = |message: &str| NodeError::File { path: path.display().to_string(), message: message.to_owned() };
    if !matches!(path.extension().and_then(|e| e.to_str()), Some("png" | "svg")) {
        return Err(fault("a QR is written as .png or .svg"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if folder.is_some_and(|f| !f.is_dir()) { Err(fault("there is no such folder")) } else { Ok(()) }
}

/// Writes the picture of a ticket, if one is asked for.
fn draw(reply: &Reply, out: Option<&Path>) -> Result<(), NodeError> {
    let (Some(path), Some(ticket)) = (out, reply.data["ticket"].as_str()) else { return Ok(()) };
    let fault = |e: &dyn std::fmt::Display| NodeError::File { path: path.display().to_string(), message: e.to_string() };
    let code = qrcode::QrCode::new(ticket.to_uppercase()).map_err(|e| fault(&e))?;
    match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => {
            std::fs::write(path, code.render::<qrcode::render::svg::Color<'_>>().min_dimensions(480, 480).build()).map_err(|e| fault(&e))
        }
        Some("png") => png(&code, path).map_err(|e| fault(&e)),
        _ => Err(fault(&"a QR is written as .png or .svg")),
    }
}

/// Pixels of one module, and modules of quiet around the code, as the standard asks.
const MODULE: usize = 8;
const QUIET: usize = 4;

fn png(code: &qrcode::QrCode, path: &Path) -> Result<(), png::EncodingError> {
    let (width, colors) = (code.width(), code.to_colors());
    let side = (width + 2 * QUIET) * MODULE;
    let dark = |at: usize| at.checked_sub(QUIET * MODULE).map(|p| p / MODULE).filter(|m| *m < width);
    let pixel = |x: usize, y: usize| match (dark(x), dark(y)) {
        (Some(x), Some(y)) if colors[y * width + x] == qrcode::Color::Dark => 0,
        _ => 255,
    };
    let pixels: Vec<u8> = (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(std::fs::File::create(path)?), side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)
}

/// The request behind `devices`.
pub fn device_request(what: Option<&DeviceVerb>) -> Result<DeviceRequest, NodeError> {
    Ok(match what {
        None => DeviceRequest::List,
        Some(DeviceVerb::Role { device, role }) => DeviceRequest::Role { device: device.clone(), role: role.clone() },
        Some(DeviceVerb::Remove { device, lost, since, .. }) => {
            DeviceRequest::Remove { device: device.clone(), how: lost.then(|| "lost".into()), since: *since }
        }
        Some(DeviceVerb::Approve { device, role }) => DeviceRequest::Approve { device: device.clone(), role: role.clone() },
        Some(DeviceVerb::Refuse { device }) => DeviceRequest::Refuse { device: device.clone() },
        Some(DeviceVerb::Believe { device }) => DeviceRequest::Believe { device: device.clone() },
        Some(DeviceVerb::Verify { device, digits }) => DeviceRequest::Verify { device: device.clone(), digits: digits.join(" ") },
        Some(DeviceVerb::Quarantine { what: None }) => DeviceRequest::Quarantine,
        Some(DeviceVerb::Quarantine { what: Some(QuarantineVerb::Accept { which, through }) }) => {
            DeviceRequest::Accept { which: which.clone(), through: *through }
        }
        Some(DeviceVerb::Recover { words, remove }) => {
            DeviceRequest::Recover { words: words_from(words.as_deref())?, remove: remove.clone() }
        }
    })
}

/// From a file or standard input: an argument would show up in lists of processes and in the shell's history.
fn words_from(file: Option<&Path>) -> Result<String, NodeError> {
    let fault = |path: &str, e: std::io::Error| NodeError::File { path: path.to_owned(), message: e.to_string() };
    match file {
        Some(path) => std::fs::read_to_string(path).map_err(|e| fault(&path.display().to_string(), e)),
        None => {
            let mut text = String::new();
            std::io::stdin().take(4096).read_to_string(&mut text).map_err(|e| fault("standard input", e))?;
            Ok(text)
        }
    }
}

/// The request behind `policy`.
pub fn policy_request(what: Option<&PolicyVerb>) -> PolicyRequest {
    match what {
        None => PolicyRequest::default(),
        Some(PolicyVerb::MembersEditOthers { answer }) => PolicyRequest { members_edit_others: Some(answer == "yes"), open: None },
        Some(PolicyVerb::Join { how }) => PolicyRequest { members_edit_others: None, open: Some(how == "open") },
    }
}
