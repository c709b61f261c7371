//! The interface: routes, their description, and what happens around every request.

mod access;
mod accounts;
mod body;
mod chunks;
mod events;
mod logs;
mod operator;
mod refusal;

pub(crate) use access::{Peer, hashed};

use crate::service::{Service, now};
use access::Peer as From;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use cairn_relay_wire::{About, Code, MARK_HEADER, SESSION_HEADER, VERSION};
use refusal::{Answer, Refusal, in_our_words};
use std::sync::Arc;
use std::time::Instant;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Info, KnownFormat, ObjectBuilder, OpenApi, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Shared = State<Arc<Service>>;

/// Bytes, for the description.
struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}
impl ToSchema for Binary {}

/// What this relay is.
#[utoipa::path(get, path = "/v1", tag = "relay", responses((status = 200, body = About)))]
async fn about(State(s): Shared) -> Answer {
    let about = About {
        service: "cairn-relay".into(),
        versions: vec![VERSION],
        program: env!("CARGO_PKG_VERSION").into(),
        accounts: s.settings.accounts,
        registration: s.settings.registration,
        quota_bytes: s.settings.quota_bytes,
        retention_days: s.settings.retention_days,
        now: now(),
    };
    Ok(Json(about).into_response())
}

/// `ok` if the storage answers.
#[utoipa::path(get, path = "/healthz", tag = "relay", responses((status = 200, body = String, content_type = "text/plain"), (status = 503, body = cairn_relay_wire::Problem, content_type = "application/problem+json")))]
async fn healthz(State(s): Shared) -> Answer {
    s.storage.healthy().await?;
    s.parts.healthy().await?;
    Ok("ok".into_response())
}

fn routes() -> OpenApiRouter<Arc<Service>> {
    let logs = OpenApiRouter::new()
        .routes(routes!(logs::status, logs::create))
        .routes(routes!(logs::challenge))
        .routes(routes!(logs::session))
        .routes(routes!(logs::keys, logs::rotate))
        .routes(routes!(chunks::add))
        .routes(routes!(chunks::commit))
        .routes(routes!(chunks::ask))
        .routes(routes!(chunks::has))
        .routes(routes!(chunks::index))
        .routes(routes!(chunks::fetch))
        .routes(routes!(chunks::one))
        .routes(routes!(chunks::received, chunks::piece))
        .routes(routes!(chunks::trim))
        .routes(routes!(chunks::untrim))
        .routes(routes!(events::stream_events))
        .routes(routes!(events::wait));
    let accounts = OpenApiRouter::new()
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::login, accounts::logout))
        .routes(routes!(accounts::password))
        .routes(routes!(accounts::account))
        .routes(routes!(accounts::label, accounts::unlabel));
    let operator = OpenApiRouter::new()
        .routes(routes!(operator::usage))
        .routes(routes!(operator::metrics))
        .routes(routes!(operator::accounts))
        .routes(routes!(operator::change_account, operator::delete_account))
        .routes(routes!(operator::logs))
        .routes(routes!(operator::change_log, operator::delete_log))
        .routes(routes!(operator::code));
    let mut info = Info::new("Cairn relay".to_owned(), VERSION.to_string());
    info.description = Some("A log of sealed chunks for each project. PROTOCOL.md tells what the bytes mean.".into());
    let api = OpenApi::new(info, utoipa::openapi::Paths::new());
    OpenApiRouter::with_openapi(api).routes(routes!(about)).routes(routes!(healthz)).merge(logs).merge(accounts).merge(operator)
}

/// The description of the interface, made from the code.
pub fn openapi() -> OpenApi {
    let (_, mut api) = routes().split_for_parts();
    let schemes = &mut api.components.get_or_insert_default().security_schemes;
    let bearer = || SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    schemes.insert("account".into(), bearer().into());
    schemes.insert("operator".into(), bearer().into());
    schemes.insert("session".into(), SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(SESSION_HEADER))).into());
    api
}

/// Everything a node answers.
pub(crate) fn router(service: Arc<Service>) -> Router {
    let described = serde_json::to_string_pretty(&openapi()).unwrap_or_default();
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    let (router, _) = routes().split_for_parts();
    router
        .route("/openapi.json", axum::routing::get(move || std::future::ready((json, described.clone()))))
        .fallback(|| async { Refusal::new(Code::NotFound, "there is no such path").into_response() })
        .layer(middleware::from_fn_with_state(service.clone(), around))
        .with_state(service)
}

/// The address a request is from: that of the connection, or where a proxy is trusted the one it says.
fn address(s: &Service, request: &Request) -> From {
    let direct = request.extensions().get::<From>().copied().unwrap_or(From(std::net::Ipv4Addr::UNSPECIFIED.into()));
    if !s.settings.behind_proxy {
        return direct;
    }
    let said = request.headers().get_all("x-forwarded-for").iter().next_back().and_then(|v| v.to_str().ok());
    said.and_then(|v| v.rsplit(',').next()?.trim().parse().ok()).map_or(direct, From)
}

/// Rates before anything is read; after, the mark of a relay, our words, and the numbers.
async fn around(State(s): Shared, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let from = address(&s, &request);
    request.extensions_mut().insert(from);
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |p| p.as_str().to_owned());
    let mut response = match s.rates.address(from.0) {
        Err(problem) if route != "/healthz" => Refusal::from(problem).into_response(),
        _ => in_our_words(next.run(request).await),
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(MARK_HEADER), HeaderValue::from_static("1"));
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    let took = began.elapsed();
    s.metrics.answered(&route, response.status().as_u16(), took.as_secs_f64());
    if let Some(heard) = &s.heard {
        let failed = response.extensions().get::<refusal::Detail>().map(|d| d.0.as_str());
        heard(&crate::service::Answered { route: &route, status: response.status().as_u16(), took, failed });
    }
    response
}
