use std::{convert::Infallible, future::poll_fn};

use http_body::Body as _;

use super::*;
use crate::cluster::lead::Boot;

const LIST: &str = "/voicelane.v1.Sessions/ListSessions";

/// Answers with two messages.
struct Two {
    /// Ends while the answer is being made.
    ends: Option<Tenure>,
}

/// Messages that are left.
struct Messages(u8);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(left) = self.0.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"message")))))
    }
}

impl Service<http::Request<Body>> for Two {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        if let Some(tenure) = &self.ends {
            tenure.end();
        }
        std::future::ready(Ok(http::Response::new(Body::new(Messages(2)))))
    }
}

fn tenure() -> Tenure {
    Tenure::until(Boot::now().plus(Duration::from_secs(3_600)))
}

async fn ask(role: Role, ends: Option<Tenure>, path: &str) -> http::Response<Body> {
    let mut request = http::Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap();
    let mut service = RefuseCalls(role).layer(Two { ends });
    service.call(request).await.unwrap()
}

async fn next(answer: &mut http::Response<Body>) -> Option<Frame<Bytes>> {
    let frame = poll_fn(|cx| Pin::new(answer.body_mut()).poll_frame(cx)).await;
    frame.map(Result::unwrap)
}

fn code(headers: &http::HeaderMap) -> Option<tonic::Code> {
    Some(Status::from_header_map(headers)?.code())
}

#[tokio::test]
async fn a_leader_answers_until_its_time_is_over() {
    let tenure = tenure();
    let mut answer = ask(Role::Leads(tenure.clone()), None, LIST).await;
    assert_eq!(code(answer.headers()), None);
    for _ in 0..2 {
        assert!(next(&mut answer).await.unwrap().is_data());
    }
    assert!(next(&mut answer).await.is_none());
    tenure.end();
    let answer = ask(Role::Leads(tenure.clone()), None, LIST).await;
    assert_eq!(code(answer.headers()), Some(tonic::Code::Unavailable));
    let health = ask(Role::Leads(tenure), None, "/grpc.health.v1.Health/Check").await;
    assert_eq!(code(health.headers()), None);
}

#[tokio::test]
async fn an_answer_that_is_made_when_the_lead_is_over_is_not_given() {
    let tenure = tenure();
    let answer = ask(Role::Leads(tenure.clone()), Some(tenure), LIST).await;
    assert_eq!(code(answer.headers()), Some(tonic::Code::Unavailable));
}

#[tokio::test]
async fn a_stream_ends_with_unavailable_in_place_of_what_comes_when_the_lead_is_over() {
    let tenure = tenure();
    let mut answer = ask(Role::Leads(tenure.clone()), None, LIST).await;
    assert!(next(&mut answer).await.unwrap().is_data());
    tenure.end();
    let end = next(&mut answer).await.unwrap().into_trailers().unwrap();
    assert_eq!(code(&end), Some(tonic::Code::Unavailable));
    assert!(next(&mut answer).await.is_none());
    assert!(answer.body().is_end_stream());
}
