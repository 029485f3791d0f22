"""The two ends of a trip to an identity provider. Thin; the rules are in `authflows.inbound.identity.sso`."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET

from authflows.inbound.identity import my_identities, sso, sso_preview
from authflows.inbound.identity.sso import Purpose, Trip
from authflows.inbound.identity.sso_problems import SignInProblem
from authflows.models import IdentityProvider


@login_not_required
@require_GET
def start(request: HttpRequest, slug: str) -> HttpResponse:
    """A link, not a form: the Content-Security-Policy lets no form end at another site."""
    provider = sso.provider_with(slug)
    if provider is None:
        return _no_provider(request)
    next_url = own_url(request, request.GET.get("next", ""))
    if request.user.is_authenticated:
        return redirect(next_url or "portal")
    return to_provider(request, provider, purpose=Purpose.SIGN_IN, next_url=next_url)


@login_not_required
@require_GET
def callback(request: HttpRequest, slug: str) -> HttpResponse:
    """The redirect URI: sign the person in, or show why not."""
    response = _finish(request, slug)
    response.headers["Referrer-Policy"] = "no-referrer"  # the address holds the code
    return response


def _finish(request: HttpRequest, slug: str) -> HttpResponse:
    provider = sso.provider_with(slug) or sso_preview.provider_under_test(request, slug)
    if provider is None:
        return _no_provider(request)
    try:
        trip = sso.finish(request, provider)
    except SignInProblem as problem:
        if problem.test and sso_preview.may_see(request, provider):
            return render(request, "admin/gatehouse/sso_preview.html", sso_preview.failure(request, provider, problem))
        return show_problem(request, provider, problem)
    try:
        return _arrive(request, trip)
    except SignInProblem as problem:
        return show_problem(request, provider, problem)


def _arrive(request: HttpRequest, trip: Trip) -> HttpResponse:
    if trip.purpose is Purpose.TEST:
        if not sso_preview.may_see(request, trip.provider) or trip.user_id != request.user.pk:
            return _no_provider(request)
        return render(request, "admin/gatehouse/sso_preview.html", sso_preview.report(request, trip))
    if trip.purpose is Purpose.CONNECT:
        my_identities.propose(request, trip)
        return redirect("my-identity-connect", trip.provider.slug)
    if not sso.provider_with(trip.provider.slug):
        return _no_provider(request)
    sso.sign_in(request, trip)
    return redirect(trip.next_url or "portal")


def to_provider(
    request: HttpRequest, provider: IdentityProvider, *, purpose: Purpose, next_url: str = ""
) -> HttpResponse:
    """Send the browser there, or show why that does not work."""
    try:
        return HttpResponseRedirect(sso.begin(request, provider, purpose=purpose, next_url=next_url))
    except SignInProblem as problem:
        problem.next_url = next_url
        return show_problem(request, provider, problem)


def show_problem(request: HttpRequest, provider: IdentityProvider, problem: SignInProblem) -> HttpResponse:
    """One page, one next step."""
    signed_in = request.user.is_authenticated
    context = {
        "problem": problem,
        "provider": provider,
        "again_url": "" if signed_in else sso.start_url(provider, next_url=problem.next_url),
        "next_url": problem.next_url,
    }
    response = render(request, "authflows/sso_problem.html", context, status=problem.status)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response


def own_url(request: HttpRequest, url: str) -> str:
    """`url` if it is a page of ours, else nothing."""
    good = url_has_allowed_host_and_scheme(url, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return url if good else ""


def _no_provider(request: HttpRequest) -> HttpResponse:
    return render(request, "authflows/sso_unknown.html", status=404)
